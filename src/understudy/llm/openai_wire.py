"""Converts requests and replies to and from the OpenAI chat format. Pure."""

import base64
import math
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from understudy.errors import NOT_JSON
from understudy.llm.messages import ChatRequest, ImagePart, Message, TextPart, Usage, UsageSource

_LENGTHS = frozenset(("max_tokens", "max_completion_tokens"))


ABSENT = msgspec.Raw()
_NULL = msgspec.Raw(b"null")
_MOST_TOKENS = 1_000_000_000
_NOTHING = (ABSENT, _NULL, *map(msgspec.Raw, (b"false", b'""', b"{}", b"[]")))


class FunctionPiece(msgspec.Struct):
    """A function with its arguments, or a custom tool with its input."""

    name: str | None = None
    arguments: str | None = None
    input: str | None = None

    @property
    def text(self) -> str | None:
        return self.arguments or self.input

    def __bool__(self) -> bool:
        return bool(self.name or self.text)


class ToolCallPiece(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None
    custom: FunctionPiece | None = None


class ContentPiece(msgspec.Struct):
    type: str = "text"
    text: str | None = None
    summary: str | None = None
    thinking: list["ContentPiece"] | str | None = None


class Delta(msgspec.Struct):
    """A choice's `delta`, or its `message` where the answer came in one piece."""

    content: str | list[ContentPiece] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[ContentPiece] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallPiece] | None = None
    function_call: FunctionPiece | None = None
    """The older form of a tool call; there is only one."""
    images: msgspec.Raw = ABSENT
    audio: msgspec.Raw = ABSENT


class Choice(msgspec.Struct):
    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    logprobs: msgspec.Raw = ABSENT
    finish_reason: str | None = None
    error: msgspec.Raw = ABSENT


class TokenDetails(msgspec.Struct):
    cached_tokens: float | None = None
    cache_write_tokens: float | None = None
    reasoning_tokens: float | None = None


class UsagePiece(msgspec.Struct):
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    reasoning_tokens: float | None = None
    cache_read_input_tokens: float | None = None
    cache_creation_input_tokens: float | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None
    cost: float | str | None = None


class Timings(msgspec.Struct):
    """llama.cpp's own figures, sent even without a request for usage."""

    prompt_n: float = 0
    predicted_n: float = 0
    cache_n: float = 0


class NanoGptPricing(msgspec.Struct):
    cost: float | str | None = None
    amount: float | str | None = None


class GroqExtra(msgspec.Struct):
    usage: msgspec.Raw = ABSENT


class Chunk(msgspec.Struct):
    """One frame of a stream, or a whole answer. Members that are not used stay encoded."""

    id: str | int | None = None
    created: msgspec.Raw = ABSENT
    model: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    detail: msgspec.Raw = ABSENT
    object: str | None = None
    message: msgspec.Raw = ABSENT
    """Of an error; a reply's message is in its choice."""
    timings: Timings | None = None
    x_groq: GroqExtra | None = None
    x_nanogpt_pricing: NanoGptPricing | None = None


DECODE_CHUNK = msgspec.json.Decoder(Chunk).decode
_decode_usage: Callable[[bytes], UsagePiece | None] = msgspec.json.Decoder(
    UsagePiece | None, strict=False
).decode
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MESSAGES = msgspec.json.Decoder(list[dict[str, object]])
_decode_any = msgspec.json.Decoder().decode


def present(raw: msgspec.Raw) -> bool:
    """Whether a member that stays encoded is present and not empty."""
    return raw not in _NOTHING


encode_body: Callable[[Mapping[str, object]], bytes] = msgspec.json.Encoder().encode


def _members_of(extra: bytes) -> dict[str, msgspec.Raw]:
    """Split a JSON object into its members, each still encoded."""
    return _MEMBERS.decode(extra) if extra else {}


def encode_message(message: Message) -> dict[str, object]:
    """Text alone is sent as a string: some servers accept a list only from the user."""
    if any(isinstance(part, ImagePart) for part in message.parts):
        return {"role": message.role, "content": [_encode_part(p) for p in message.parts]}
    return {"role": message.role, "content": text_of(message)}


def text_of(message: Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))


def merge_turns(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Join consecutive messages of one role, for chat templates that require alternation."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            merged[-1] = Message(message.role, (*merged[-1].parts, *message.parts))
        else:
            merged.append(message)
    return tuple(merged)


def request_members(request: ChatRequest, length_field: str) -> dict[str, object]:
    """Return the body members that the request itself sets; unset ones are absent, never null.

    Those of a client's request are still encoded.
    """
    members: dict[str, object] = {}
    if request.max_tokens is not None:
        members[length_field] = request.max_tokens
    if request.temperature is not None:
        members["temperature"] = request.temperature
    if request.top_p is not None:
        members["top_p"] = request.top_p
    if request.stop and (stops := [text for text in request.stop if text]):
        members["stop"] = stops
    if request.extra:
        given = _MEMBERS.decode(request.extra)
        if _NULL in given.values():
            # koboldcpp sends an empty reply for a null; textgen-webui reads it as no limit.
            given = {name: raw for name, raw in given.items() if raw != _NULL}
        members.update(given)
    return with_length_field(members, length_field)


def readable(raw: object) -> object:
    """Decode a member that an engine has another form for."""
    try:
        return _decode_any(raw) if isinstance(raw, msgspec.Raw) else raw
    except NOT_JSON:
        return raw


def most_tokens(request: ChatRequest) -> int | None:
    """Return how long the reply may be, `None` where the request does not say."""
    members = _members_of(request.extra)
    given = (members[name] for name in sorted(_LENGTHS) if name in members)
    lengths = [length for raw in given if type(length := readable(raw)) is int]
    return lengths[0] if lengths else request.max_tokens


def without_lengths(extra: bytes) -> bytes:
    """Remove the length of the reply from a client's request."""
    members = _members_of(extra)
    if members.keys().isdisjoint(_LENGTHS):
        return extra
    return encode_body({k: raw for k, raw in members.items() if k not in _LENGTHS})


def plain_messages(raw: msgspec.Raw) -> object:
    """Return messages with `developer` as `system`, and lists of only text as strings."""
    try:
        messages = _MESSAGES.decode(raw)
    except NOT_JSON:
        return raw
    for message in messages:
        if message.get("role") == "developer":
            message["role"] = "system"
        text = _only_text(message.get("content"))
        if text is not None:
            message["content"] = text
    return messages


def _only_text(content: object) -> str | None:
    if not isinstance(content, list) or not content:
        return None
    texts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "\n".join(texts)


def take_stops(members: dict[str, object]) -> list[str]:
    """Remove `stop` from a body's members and return it as a list."""
    stops = readable(members.pop("stop", None))
    listed = stops if isinstance(stops, list) else [stops]
    return [stop for stop in listed if isinstance(stop, str) and stop]


def with_length_field(members: dict[str, object], length_field: str) -> dict[str, object]:
    """Rename the reply's length for this server; the value set last wins."""
    other = "max_tokens" if length_field != "max_tokens" else "max_completion_tokens"
    if other in members:
        members[length_field] = members.pop(other)
    return members


def usage_of(raw: msgspec.Raw) -> Usage | None:
    """Read a usage object; `None` for none, for an unreadable one, and for one without figures."""
    try:
        piece = _decode_usage(raw)
    except NOT_JSON:
        piece = _readable_figures(raw)
    if piece is None:
        return None
    given, made = piece.prompt_tokens, piece.completion_tokens
    if not (type(given) is int and type(made) is int and 0 <= given < _MOST_TOKENS > made >= 0):
        given = _tokens(given, piece.input_tokens)
        made = _tokens(made, piece.output_tokens)
        if given is None and made is None:
            return None
    incoming, outgoing = piece.prompt_tokens_details, piece.completion_tokens_details
    thought, read, written = (
        piece.reasoning_tokens,
        piece.cache_read_input_tokens,
        piece.cache_creation_input_tokens,
    )
    if incoming is not None:
        read = _tokens(incoming.cached_tokens, read)
        written = _tokens(incoming.cache_write_tokens, written)
    if outgoing is not None:
        thought = _tokens(outgoing.reasoning_tokens, thought)
    return Usage(
        given or 0,
        made or 0,
        _tokens(thought) or 0 if thought else 0,
        _tokens(read) or 0 if read else 0,
        _tokens(written) or 0 if written else 0,
        cost_usd=None if piece.cost is None else money(piece.cost),
    )


def _readable_figures(raw: msgspec.Raw) -> UsagePiece | None:
    """Decode a usage object without its members of an unexpected type."""
    with suppress(*NOT_JSON):
        members = _MEMBERS.decode(raw)
        readable = {name: value for name, value in members.items() if _is_figure(name, value)}
        return _decode_usage(encode_body(readable))
    return None


def _is_figure(name: str, value: msgspec.Raw) -> bool:
    try:
        _decode_usage(encode_body({name: value}))
    except NOT_JSON:
        return False
    return True


def usage_from_timings(timings: Timings) -> Usage:
    return Usage(
        input_tokens=int(timings.cache_n + timings.prompt_n),
        output_tokens=int(timings.predicted_n),
        cache_read_tokens=int(timings.cache_n),
        source=UsageSource.DERIVED,
    )


def money(value: float | str | None) -> float | None:
    try:
        amount = float(value) if value is not None else None
    except ValueError:
        return None
    return amount if amount is not None and math.isfinite(amount) and amount >= 0 else None


def content_text(content: str | list[ContentPiece] | None) -> str:
    """The visible text of a content field, whichever form it has."""
    if isinstance(content, list):
        return "".join(piece.text or "" for piece in content if piece.type in ("text", ""))
    return content or ""


def reasoning_text(delta: Delta) -> str:
    """The reasoning of a delta, under whichever name it came; each name repeats the others."""
    if delta.reasoning or delta.reasoning_content:
        return delta.reasoning or delta.reasoning_content or ""
    pieces = list(delta.reasoning_details or ())
    if isinstance(delta.content, list):
        pieces += [p for p in delta.content if p.type == "thinking"]
    return "".join(_thought_piece(piece) for piece in pieces)


def _thought_piece(piece: ContentPiece) -> str:
    if isinstance(piece.thinking, list):
        return "".join(inner.text or "" for inner in piece.thinking)
    return piece.thinking or piece.text or piece.summary or ""


def _encode_part(part: TextPart | ImagePart) -> dict[str, object]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    data = base64.b64encode(part.data).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{data}"}}


def _tokens(*values: float | None) -> int | None:
    for value in values:
        if value is not None and math.isfinite(value) and 0 <= value < _MOST_TOKENS:
            return int(value)
    return None


def decode_completion(payload: bytes) -> Chunk:
    """One frame of a text completion, its text in the place of a chat's."""
    chunk = DECODE_CHUNK(payload)
    for choice in chunk.choices or ():
        if choice.delta is None and choice.text is not None:
            choice.delta = Delta(content=choice.text)
    return chunk
