"""Frames of a streamed reply as JSON objects of any members: divide, rewrite, complete.

A frame is in the form of a chat chunk (`delta`) or of a text completion (`text`). All functions
keep the members that they do not know.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeGuard

import msgspec

from understudy.errors import NOT_JSON
from understudy.llm.messages import (
    OtherDelta,
    Output,
    ReasoningDelta,
    ReplyIdentity,
    TextDelta,
    ToolCallDelta,
)

Json = dict[str, object]
CHUNK = "chat.completion.chunk"
COMPLETION = "text_completion"
"""What a frame calls itself; the SDKs skip frames of another name."""


read_frame = msgspec.json.Decoder(Json).decode
write_frame: Callable[[Json], bytes] = msgspec.json.encode
_IDENTITY = ("id", "object", "created", "model")
_IDENTITY_NAMES = tuple(b'"%b"' % name.encode() for name in _IDENTITY)
_REASONING = ("reasoning", "reasoning_content", "reasoning_details")
_MEDIA = ("images", "audio")
_CALL_MEMBERS = ("index", "id", "type", "function", "custom")
EMPTY: tuple[object, ...] = (None, "", [], {})
"""Values of members that hold nothing."""


def first_choice(frame: Json) -> Json:
    """Return the first choice; an empty object where there is none."""
    choices = frame.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}


def delta_of(choice: Json) -> Json:
    delta = choice.get("delta")
    return delta if isinstance(delta, dict) else {}


def has_media(payload: bytes) -> bool:
    """Whether a frame without text holds an image or audio."""
    if b'"images"' not in payload and b'"audio"' not in payload:
        return False
    delta = delta_of(first_choice(read_frame(payload)))
    return any(_has_value(delta.get(name)) for name in _MEDIA)


def _has_value(value: object) -> bool:
    """Whether anything is in it; some servers send objects whose every member is empty or 0."""
    if isinstance(value, dict):
        return any(map(_has_value, value.values()))
    if isinstance(value, list):
        return any(map(_has_value, value))
    return value not in (None, "", 0)


def with_identity(payload: bytes, identity: ReplyIdentity) -> bytes:
    """Return the frame with the identity that the reply's other frames have."""
    frame = read_frame(payload)
    if identity.kind is not None:
        frame["object"] = identity.kind
    if identity.id is not None:
        frame["id"] = identity.id
    if identity.created is not None:
        frame["created"] = msgspec.Raw(identity.created)
    if identity.model is not None:
        frame["model"] = identity.model
    return write_frame(frame)


def with_members(payload: bytes, members: bytes) -> bytes:
    """Put `members` of its identity, encoded without braces, in the place of the frame's own."""
    if any(name in members and name in payload for name in _IDENTITY_NAMES):
        return write_frame(read_frame(payload) | read_frame(b"{%b}" % members))
    rest = payload.lstrip()[1:]
    return b"{%b}" % members if rest.strip() == b"}" else b"{%b,%b" % (members, rest)


def with_text(payload: bytes, text: str) -> bytes:
    """Replace the text of a frame."""
    frame = read_frame(payload)
    choice = first_choice(frame)
    delta = delta_of(choice)
    _drop_copy(choice)
    if "delta" not in choice:
        choice["text"] = text
    elif delta.get("content") is None and delta.get("refusal"):
        delta["refusal"] = text
    else:
        delta["content"] = text
    return write_frame(frame)


def as_reasoning(payload: bytes, text: str) -> bytes:
    """Turn a frame of text into one of reasoning."""
    frame = read_frame(payload)
    choice = first_choice(frame)
    delta = delta_of(choice)
    _drop_copy(choice)
    delta.pop("content", None)
    delta["reasoning_content"] = text
    return write_frame(frame)


def as_text(payload: bytes) -> bytes:
    """Turn a frame that `as_reasoning` made back into one of text."""
    frame = read_frame(payload)
    delta = delta_of(first_choice(frame))
    if "reasoning_content" in delta:
        delta["content"] = delta.pop("reasoning_content")
    return write_frame(frame)


def _drop_copy(choice: Json) -> None:
    """Remove the text that Together and its resellers repeat beside the delta."""
    if "delta" in choice:
        choice.pop("text", None)


def without_text(payload: bytes) -> bytes | None:
    """Remove the text of a frame; `None` where no other member has a value."""
    frame = read_frame(payload)
    choice = first_choice(frame)
    delta = delta_of(choice)
    rest = [v for k, v in frame.items() if k not in (*_IDENTITY, "choices")]
    rest += [v for k, v in choice.items() if k not in ("index", "delta", "text")]
    rest += [v for k, v in delta.items() if k not in ("content", "role")]
    if all(value in EMPTY for value in rest):
        return None
    _drop_copy(choice)
    if "delta" in choice:
        delta.pop("content", None)
    else:
        choice["text"] = ""
    return write_frame(frame)


def filtered(payload: bytes, pieces: Sequence[TextDelta | ReasoningDelta]) -> list[Output]:
    """Put what was made of a frame's text back into the frame; further pieces have none."""
    if not pieces:
        rest = without_text(payload)
        return [] if rest is None else [OtherDelta((rest,))]
    first = pieces[0]
    if isinstance(first, TextDelta):
        return [TextDelta(first.text, (with_text(payload, first.text),)), *pieces[1:]]
    return [ReasoningDelta(first.text, (as_reasoning(payload, first.text),)), *pieces[1:]]


def with_choice_index(payload: bytes) -> bytes:
    """Number the first choice 0: clients put the pieces of a reply together by it."""
    frame = read_frame(payload)
    first_choice(frame)["index"] = 0
    return write_frame(frame)


def with_indexes(payload: bytes, sent: dict[str, int]) -> bytes:
    """Number the items of a delta's lists where an earlier frame has brought some of the same list.

    The `openai` SDK for Python joins lists by the `index` of their items, and raises without it.
    `sent` holds how many items of each list came before, and is counted up.
    """
    if payload.count(b"[{") < 2:  # the choices are the first
        return payload
    frame = read_frame(payload)
    changed = False
    for name, items in delta_of(first_choice(frame)).items():
        if not isinstance(items, list):
            continue
        begun = sent.get(name, 0)
        for position, item in enumerate(items, begun):
            if begun and isinstance(item, dict) and not isinstance(item.get("index"), int):
                item["index"] = position
                changed = True
        sent[name] = begun + len(items)
    return write_frame(frame) if changed else payload


def without_calls(payload: bytes, indexes: Sequence[int | None] = ()) -> bytes:
    """Remove tool calls of which nothing can be passed on, but for members unknown here.

    `indexes` says for each call of the frame which one of the reply it is, where that has begun.
    """
    frame = _as_chunk(read_frame(payload))
    delta = delta_of(first_choice(frame))
    calls = _taken(delta, "tool_calls", "function_call").get("tool_calls")
    bare = zip(indexes, calls, strict=False) if isinstance(calls, list) else ()
    rest = [
        {"index": index} | {k: v for k, v in call.items() if k not in _CALL_MEMBERS}
        for index, call in bare
        if index is not None and isinstance(call, dict)
    ]
    if kept := [call for call in rest if len(call) > 1]:
        delta["tool_calls"] = kept
    return write_frame(frame)


def divide(
    payload: bytes, outputs: Sequence[Output], positions: Sequence[int] = ()
) -> list[Output]:
    """Give each output a frame of its own, from the frame that holds them all.

    Finish reason and usage are left out: `finish_frame` and `usage_frame` return them. The first
    frame keeps the members that belong to none of the outputs. `positions` says for each tool call
    among the outputs which of the frame's calls it is.
    """
    frame = _as_chunk(read_frame(payload))
    choice = first_choice(frame)
    delta = delta_of(choice)
    _drop_copy(choice)
    choice["finish_reason"] = None
    frame.pop("usage", None)
    members = _taken(delta, *_REASONING), _taken(delta, "content", "refusal")
    calls = _taken(delta, "tool_calls", "function_call").get("tool_calls")
    known = calls if isinstance(calls, list) else []
    waiting = iter([known[n] if n < len(known) else {} for n in positions])
    logprobs = _taken(choice, "logprobs")
    top = {name: frame[name] for name in _IDENTITY if name in frame}
    divided: list[Output] = []
    for output in outputs:
        if "delta" in choice:
            delta |= _own_members(output, members, waiting)
        if isinstance(output, TextDelta):
            choice |= logprobs
        divided.append(_framed(output, write_frame(frame)))
        delta = {}
        choice = {"index": choice.get("index", 0), "delta": delta}
        frame = top | {"choices": [choice]}
    return divided


def _as_chunk(frame: Json) -> Json:
    """Turn an answer in one piece into a chunk; reduce the choices to the first."""
    choice = first_choice(frame)
    message = choice.pop("message", None)
    if isinstance(message, dict):
        choice["delta"] = delta_of(choice) or message
        frame["object"] = CHUNK
    frame["choices"] = [choice]
    return frame


def _taken(members: Json, *names: str) -> Json:
    return {name: members.pop(name) for name in names if name in members}


def _own_members(output: Output, members: tuple[Json, Json], calls: Iterator[object]) -> Json:
    """Return what belongs to one output of a frame that holds several."""
    reasoning, text = members
    match output:
        case TextDelta():
            return {"content": output.text} if text.get("content") not in EMPTY else text
        case ReasoningDelta():
            return reasoning or {"reasoning_content": output.text}
        case ToolCallDelta():
            return {"tool_calls": [_normal_call(next(calls, {}), output)]}
        case _:
            return {}


def _normal_call(raw: object, output: ToolCallDelta) -> Json:
    """Return a server's piece of a call with index, id, name and arguments as clients need them."""
    members: Json = raw if isinstance(raw, dict) else {}
    custom = _has_value(members.get("custom")) and not _has_value(members.get("function"))
    kind, text = ("custom", "input") if custom else ("function", "arguments")
    inner = members.get(kind)
    call = {k: v for k, v in members.items() if k not in _CALL_MEMBERS}
    body = {k: v for k, v in inner.items() if k not in ("name", text)} if _is_object(inner) else {}
    call["index"] = output.index
    if output.call_id is not None:
        call |= {"id": output.call_id, "type": kind}
        body["name"] = output.name
    call[kind] = body | {text: output.arguments}
    return call


def _is_object(value: object) -> TypeGuard[Json]:
    return isinstance(value, dict)


def rest_frame(payload: bytes) -> bytes | None:
    """Return a frame without its outputs, finish and usage; `None` where nothing is left."""
    frame = _as_chunk(read_frame(payload))
    first_choice(frame)["finish_reason"] = None
    frame.pop("usage", None)
    return without_text(write_frame(frame))


def with_finish(payload: bytes, reason: str | None) -> bytes:
    """Replace the finish reason."""
    frame = read_frame(payload)
    first_choice(frame)["finish_reason"] = reason
    return write_frame(frame)


def without_usage(payload: bytes) -> bytes:
    if b'"usage"' not in payload:
        return payload
    frame = read_frame(payload)
    frame.pop("usage", None)
    return write_frame(frame)


def finish_frame(payload: bytes) -> bytes:
    """Return the frame of nothing but the finish."""
    frame = read_frame(payload)
    choice = first_choice(frame)
    kept = {k: v for k, v in frame.items() if k in _IDENTITY}
    if str(kept.get("object")) == "chat.completion":
        kept["object"] = CHUNK
    if "text" in choice and "delta" not in choice and "message" not in choice:
        ended: Json = {"index": 0, "text": ""}
    else:
        ended = {"index": 0, "delta": {}}
    ended["finish_reason"] = choice.get("finish_reason")
    return write_frame(kept | {"choices": [ended]})


def usage_frame(payload: bytes) -> bytes:
    """Return the frame of nothing but the usage."""
    frame = read_frame(payload)
    kept = {k: v for k, v in frame.items() if k in (*_IDENTITY, "usage")}
    if str(kept.get("object")) == "chat.completion":
        kept["object"] = CHUNK
    return write_frame(kept | {"choices": []})


def text_in(payload: bytes) -> str:
    """Return the text of a frame that holds nothing else to see."""
    try:
        choice = first_choice(read_frame(payload))
    except NOT_JSON:
        return ""
    delta = delta_of(choice)
    text = delta.get("content") or delta.get("refusal") or choice.get("text")
    return text if isinstance(text, str) else ""


def _framed(output: Output, frame: bytes) -> Output:
    match output:
        case TextDelta(text):
            return TextDelta(text, (frame,))
        case ReasoningDelta(text):
            return ReasoningDelta(text, (frame,))
        case ToolCallDelta(index, call_id, name, arguments):
            return ToolCallDelta(index, call_id, name, arguments, (frame,))
        case OtherDelta():
            return OtherDelta((frame,), output.media)
