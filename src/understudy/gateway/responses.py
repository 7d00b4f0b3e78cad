"""What clients read: answers, stream frames and errors in OpenAI's shape."""

from collections.abc import Iterable

import msgspec

from understudy.errors import RequestRefused
from understudy.gateway.accumulator import ReplyAccumulator
from understudy.gateway.error_responses import error_of
from understudy.llm.frames import (
    Json,
    first_choice,
    read_frame,
    with_indexes,
    with_members,
    write_frame,
)
from understudy.llm.messages import (
    Output,
    ReasoningDelta,
    ReplyIdentity,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageSource,
)
from understudy.llm.plain_frames import finish_of_plain
from understudy.routing.request import ReplyEnded

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
_encode = msgspec.json.encode
_BETWEEN = b"\n\ndata: "
_COUNTS = frozenset(("prompt_tokens", "completion_tokens", "total_tokens"))


def model_entry(name: str, created: int) -> bytes:
    return _encode(_model(name, created))


def model_list(names: Iterable[str], created: int) -> bytes:
    return _encode({"object": "list", "data": [_model(name, created) for name in names]})


def _model(name: str, created: int) -> Json:
    return {"id": name, "object": "model", "created": created, "owned_by": "understudy"}


def usage_of(usage: Usage) -> Json:
    figures: Json = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cache_read_tokens:
        figures["prompt_tokens_details"] = {"cached_tokens": usage.cache_read_tokens}
    if usage.reasoning_tokens:
        figures["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.cost_usd is not None:
        figures["cost"] = usage.cost_usd
    return figures


def _as_reported(usage: Usage, reported: Json) -> Json:
    """Return the server's own figures; those that are not whole numbers as they were read."""
    given, made = reported.get("prompt_tokens"), reported.get("completion_tokens")
    if type(given) is type(made) is type(reported.get("total_tokens")) is int:
        has_details = usage.cache_read_tokens or usage.reasoning_tokens
        if usage.cost_usd is None and not has_details:
            return reported
        return usage_of(usage) | reported
    figures = usage_of(usage)
    for name, value in reported.items():
        if type(value) is int or name not in _COUNTS:
            figures[name] = value
    return figures


def event(*payloads: bytes) -> bytes:
    """Return server-sent events, one for each payload."""
    lines = _BETWEEN.join(payloads)
    if lines.count(b"\n") != 2 * len(payloads) - 2:
        lines = _BETWEEN.join([payload.replace(b"\n", b"\ndata: ") for payload in payloads])
    return b"data: %b\n\n" % lines


class Form(msgspec.Struct, frozen=True):
    """How the answer to one request looks where its server does not say."""

    id: str
    created: int
    include_usage: bool
    raw_completion: bool = False
    """The answer continues a text; it has no messages."""

    @property
    def own_id(self) -> str:
        return f"cmpl-{self.id}" if self.raw_completion else f"chatcmpl-{self.id}"


def _identity_members(form: Form, identity: ReplyIdentity, model: str) -> Json:
    created = identity.created
    return {
        "id": form.own_id if identity.id is None else identity.id,
        "object": "text_completion" if form.raw_completion else "chat.completion",
        "created": form.created if created is None else msgspec.Raw(created),
        "model": identity.model or model,
    }


def whole_answer(
    form: Form, end: ReplyEnded, model: str, reported: Json, gathered: ReplyAccumulator | None
) -> bytes:
    """Return the answer in one piece; `model` is named where the server's frames name none.

    `reported` is the server's own usage; `gathered` has what its frames hold beside the text.
    """
    text = end.text
    choice: Json = {"index": 0, "logprobs": None, "finish_reason": end.finish_reason}
    if form.raw_completion:
        choice["text"] = text
    else:
        choice["message"] = {"role": "assistant", "content": text}
    answer = _identity_members(form, end.identity, model)
    if gathered is not None:
        answer |= gathered.top
        choice = _with_members(choice, gathered, text)
    answer["choices"] = [choice]
    winner = end.record.winner
    usage = None if winner is None else winner.usage
    if usage is not None:
        is_reported = usage.source is UsageSource.REPORTED
        answer["usage"] = _as_reported(usage, reported) if is_reported else usage_of(usage)
    return write_frame(answer)


def _with_members(choice: Json, gathered: ReplyAccumulator, text: str) -> Json:
    """Add what the server's frames hold beside the text."""
    if "text" in choice:
        return choice | gathered.choice() | {"text": text}
    message: Json = {"role": "assistant", "content": text} | gathered.message()
    if (message.get("refusal") == text) if text else message.get("tool_calls"):
        message["content"] = None
    return choice | gathered.choice() | {"message": message}


class Envelope:
    """Writes the frames of one reply, all with the same identity."""

    __slots__ = ("_completion", "_identity", "_lists", "_members", "_missing")

    def __init__(self, form: Form, identity: ReplyIdentity, model: str) -> None:
        self._completion = form.raw_completion
        self._identity = identity
        self._members = _identity_members(form, identity, model)
        self._lists: dict[str, int] = {}
        """How many items of each list were sent."""
        self._missing: bytes | None = None

    @property
    def _frame_kind(self) -> str:
        return "text_completion" if self._completion else "chat.completion.chunk"

    def _lacking(self) -> bytes:
        """Return the members that the first frames do not have, encoded without braces."""
        if self._missing is None:
            identity = self._identity
            names = [name for name in ("id", "created", "model") if not getattr(identity, name)]
            missing = {name: self._members[name] for name in names}
            if identity.kind is None:
                missing["object"] = self._frame_kind
            self._missing = _encode(missing)[1:-1] if missing else b""
        return self._missing

    def events(self, output: Output) -> bytes:
        """Return the events of one output: the server's frames, or one of our own."""
        frames = output.frames
        if not frames:
            return self._own(output)
        if not (isinstance(output, TextDelta) and output.plain):
            frames = tuple([with_indexes(frame, self._lists) for frame in frames])
        missing = self._lacking() if self._missing is None else self._missing
        if missing:
            frames = tuple([with_members(frame, missing) for frame in frames])
        return event(*frames)

    def role(self, output: Output) -> bytes:
        """Return the event that names the role, unless the first output's frame does."""
        if self._completion or (output.frames and b'"role"' in output.frames[0]):
            return b""
        return self._chunk({"role": "assistant", "content": ""})

    def last_events(self, end: ReplyEnded, *, include_usage: bool) -> bytes:
        """Return the events that end a complete reply, `[DONE]` excluded."""
        if not (include_usage or self._lacking()):
            payload = finish_of_plain(end.frames, end.finish_reason)
            if payload is not None:
                return event(payload)
        finish, usage, rest = self._finish(end)
        if not include_usage:
            return finish if not rest else self._with_rest(finish, rest)
        return finish + usage

    def broken(self, refusal: RequestRefused) -> bytes:
        """Return the event that ends a reply which was interrupted."""
        frame = self._frame({}, "error")
        frame["error"] = error_of(refusal)
        return event(write_frame(frame))

    def usage_event(self, usage: Usage | None) -> bytes:
        if usage is None:
            return b""
        frame = self._members | {
            "object": self._frame_kind,
            "choices": [],
            "usage": usage_of(usage),
        }
        return event(write_frame(frame))

    def _own(self, output: Output) -> bytes:
        match output:
            case TextDelta(text):
                return self._chunk({"content": text})
            case ReasoningDelta(text) if not self._completion:
                return self._chunk({"reasoning_content": text})
            case ToolCallDelta(index, call_id, name, arguments) if not self._completion:
                function = {"arguments": arguments} | ({"name": name} if name else {})
                call: Json = {"index": index, "function": function}
                if call_id is not None:
                    call |= {"id": call_id, "type": "function"}
                return self._chunk({"tool_calls": [call]})
            case _:
                return b""

    def _chunk(self, delta: Json) -> bytes:
        return event(write_frame(self._frame(delta, None)))

    def _frame(self, delta: Json, reason: str | None) -> Json:
        choice: Json = {"index": 0, "finish_reason": reason}
        if self._completion:
            choice |= {"text": delta.get("content", ""), "logprobs": None}
        else:
            choice["delta"] = delta
        return self._members | {"object": self._frame_kind, "choices": [choice]}

    def _finish(self, end: ReplyEnded) -> tuple[bytes, bytes, Json]:
        """Return the events of finish and usage, and what else the usage frame holds."""
        winner = end.record.winner
        usage = None if winner is None else winner.usage
        finish, usage_event, rest = b"", b"", {}
        for payload in end.frames:
            frame = read_frame(payload)
            choice = first_choice(frame)
            if choice:
                finish = self._finish_event(payload, frame, choice, end.finish_reason)
                continue
            figures = frame.get("usage")
            rest = {k: v for k, v in frame.items() if k not in (*self._members, "choices", "usage")}
            if usage is not None and usage.source is UsageSource.REPORTED:
                known = figures if isinstance(figures, dict) else {}
                frame |= self._members | {"object": self._frame_kind}
                frame["usage"] = _as_reported(usage, known)
                usage_event = event(write_frame(frame))
        if not finish:
            finish = event(write_frame(self._frame({}, end.finish_reason)))
        return finish, usage_event or self.usage_event(usage), rest

    def _finish_event(self, payload: bytes, frame: Json, choice: Json, reason: str | None) -> bytes:
        if choice.get("finish_reason") == reason and not self._lacking():
            return event(payload)
        choice["finish_reason"] = reason
        if self._lacking():
            frame |= read_frame(b"{%b}" % self._lacking())
        return event(write_frame(frame))

    def _with_rest(self, finish: bytes, rest: Json) -> bytes:
        """Add members of a usage frame that the client gets no other frame for."""
        frame = read_frame(finish[len(b"data: ") :])
        return event(write_frame(rest | frame))
