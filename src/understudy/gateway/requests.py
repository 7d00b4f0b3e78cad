"""Parses client requests: the members that the router needs; the others stay encoded.

Inline images, above all, are never decoded.
"""

import codecs
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from understudy.errors import NOT_JSON, RequestRefused
from understudy.llm.messages import ChatRequest, Message, Role, TextPart
from understudy.routing.request import Fit, Prompt

IMAGE_TOKENS = 1_400
"""What an image of 1024 x 1024 costs most models; the real size is not read."""

_OURS = ("model", "stream", "stream_options")
"""The router sets these for each candidate: it always streams and asks for usage."""
_NOT_OF_A_TEXT = (*_OURS, "messages", "best_of")
"""`best_of` cannot be streamed, and all but one of its texts would be paid for and thrown away."""
_ONE_TEXT = (
    "it has to be one text; token numbers mean another text to each model, "
    "and several texts are several requests"
)
_LIMITS = ("stop", "max_tokens", "max_completion_tokens")
_SLICE = 65_536
"""Bytes of a body that are decoded at a time; a decoded text may take four times as much memory."""
_FEW_TOKENS = 16
"""A reply of so few tokens may be empty, above all from a reasoning model."""
_IMAGE_NOTE = {"type": "text", "text": "[an image that this model cannot be shown]"}


_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "assistant": "assistant",
    "tool": "tool",
}
"""Any other role is a user."""


class _Piece(msgspec.Struct):
    type: str
    text: str | None = None


class _Turn(msgspec.Struct):
    role: str
    content: str | list[_Piece] | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False


_NULL = msgspec.Raw(b"null")


class _Chat(msgspec.Struct):
    """The members of a chat request that are read here."""

    messages: list[_Turn]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    tools: msgspec.Raw = _NULL
    stop: object = None
    max_tokens: object = None
    max_completion_tokens: object = None


_decode_chat = msgspec.json.Decoder(_Chat).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_name = msgspec.json.Decoder(str | None)
_number = msgspec.json.Decoder(int | None)
_flag = msgspec.json.Decoder(bool | None)
_options = msgspec.json.Decoder(_StreamOptions | None)
_any = msgspec.json.Decoder()
_turns = msgspec.json.Decoder(list[_Turn])
_prompt = msgspec.json.Decoder(str | list[object])
_messages = msgspec.json.Decoder(list[dict[str, object]])
_NO_TOOLS = (b"null", b"[]")
_encode = msgspec.json.encode

T = TypeVar("T")


class ClientRequest(msgspec.Struct, frozen=True):
    """One request of a client."""

    model: str
    stream: bool
    include_usage: bool
    extra: bytes
    """The request as it came; the server's client replaces the members that the router sets."""
    messages: tuple[Message, ...]
    """The text of its messages, for servers that accept only prompts and for counting tokens."""
    text_bytes: int
    """UTF-8 bytes of the text of its messages."""
    tool_bytes: int = 0
    images: int = 0
    tools: bool = False
    may_be_empty: bool = False
    """A stop sequence, or room for few tokens only."""
    raw_completion: bool = False
    """A text to continue, instead of messages."""

    def build(self, fit: Fit) -> Prompt:
        """Return the prompt for one candidate; a client's prompt is never trimmed."""
        tokens = math.ceil((self.text_bytes + self.tool_bytes) * fit.tokens_per_char)
        if self.images and not fit.vision:
            request = ChatRequest(self.messages, extra=self._without_images())
            return Prompt(request, tokens, degraded=("images",), text_bytes=self.text_bytes)
        request = ChatRequest(self.messages, extra=self.extra, raw_completion=self.raw_completion)
        tokens += self.images * IMAGE_TOKENS
        return Prompt(request, tokens, self.images, text_bytes=self.text_bytes)

    def _without_images(self) -> bytes:
        members = _members.decode(self.extra)
        turns = _messages.decode(members["messages"])
        for turn in turns:
            content = turn.get("content")
            if isinstance(content, list):
                turn["content"] = [_IMAGE_NOTE if _is_image(piece) else piece for piece in content]
        members["messages"] = msgspec.Raw(_encode(turns))
        return _encode(members)


def _is_image(piece: object) -> bool:
    return isinstance(piece, dict) and piece.get("type") == "image_url"


def read_ask(body: bytes) -> ClientRequest:
    """Raises `RequestRefused` (400) naming the member that is wrong."""
    if not body.isascii():
        _check_encoding(body)
    try:
        chat = _decode_chat(body)
    except (*NOT_JSON, RecursionError):
        raise _wrong_member(body) from None
    if (chat.n or 1) != 1:
        raise _wrong("n", "one reply is made for each request; send the request several times")
    if not chat.messages:
        raise _wrong("messages", "it is empty")
    messages, size, images = _read_turns(chat.messages)
    tools = b"" if chat.tools is _NULL else bytes(chat.tools)
    if tools in _NO_TOOLS:
        tools = b""
    options = chat.stream_options
    return ClientRequest(
        model=chat.model or "",
        stream=chat.stream is True,
        include_usage=options is not None and options.include_usage is True,
        extra=body,
        messages=messages,
        text_bytes=size,
        tool_bytes=len(tools),
        images=images,
        tools=tools != b"",
        may_be_empty=_may_be_empty(chat.stop, chat.max_tokens, chat.max_completion_tokens),
    )


def _check_encoding(body: bytes) -> None:
    """Raises `RequestRefused` (400) for a body that is not UTF-8.

    msgspec checks only the strings that it makes, and a server receives the others too.
    """
    slices = (body[at : at + _SLICE] for at in range(0, len(body), _SLICE))
    try:
        for _ in codecs.iterdecode(slices, "utf-8"):
            pass
    except UnicodeDecodeError as error:
        raise _wrong(None, f"it is not UTF-8: {error.reason}") from None


def _read_turns(turns: Iterable[_Turn]) -> tuple[tuple[Message, ...], int, int]:
    """Return the text of the turns as messages, its UTF-8 bytes, and the number of images."""
    messages: list[Message] = []
    size = images = 0
    for turn in turns:
        text = turn.content
        if not isinstance(text, str):
            images += _images_of(turn)
            text = _text_of(turn)
        messages.append(Message(_ROLES.get(turn.role, "user"), (TextPart(text),)))
        size += len(text) if text.isascii() else _bytes_of(text)
    return tuple(messages), size, images


def _wrong_member(body: bytes) -> RequestRefused:
    """Return why a body cannot be read as a chat request."""
    try:
        members = _read(_members, body, None)
        _read(_number, members.get("n", _NULL), "n")
        _read(_turns, members.get("messages", _NULL), "messages")
        _read(_options, members.get("stream_options", _NULL), "stream_options")
        _read(_name, members.get("model", _NULL), "model")
        _read(_flag, members.get("stream", _NULL), "stream")
        for name in _LIMITS:
            _read(_any, members.get(name, _NULL), name)
    except RequestRefused as refusal:
        return refusal
    return _wrong(None, "it cannot be read")


def read_completion(body: bytes) -> ClientRequest:
    """Parse a request to continue a text. Raises `RequestRefused` (400) as `read_ask` does."""
    if not body.isascii():
        _check_encoding(body)
    members = _read(_members, body, None)
    prompt = _read(_prompt, members.get("prompt", _NULL), "prompt")
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise _wrong("prompt", _ONE_TEXT)
        prompt = prompt[0]
    options = _read(_options, members.get("stream_options", _NULL), "stream_options")
    limits = [_read(_any, members.get(name, _NULL), name) for name in _LIMITS]
    passed = {k: raw for k, raw in members.items() if k not in _NOT_OF_A_TEXT}
    return ClientRequest(
        model=_read(_name, members.get("model", _NULL), "model") or "",
        stream=_read(_flag, members.get("stream", _NULL), "stream") is True,
        include_usage=options is not None and options.include_usage is True,
        extra=_encode(passed | {"prompt": prompt}),
        messages=(Message("user", (TextPart(prompt),)),),
        text_bytes=_bytes_of(prompt),
        may_be_empty=_may_be_empty(*limits),
        raw_completion=True,
    )


def _may_be_empty(stop: object, length: object, other: object) -> bool:
    return (stop is not None and stop not in ("", [])) or _is_few(length) or _is_few(other)


def _is_few(tokens: object) -> bool:
    return type(tokens) is int and tokens <= _FEW_TOKENS


def _text_of(turn: _Turn) -> str:
    if isinstance(turn.content, str):
        return turn.content
    return "\n".join(piece.text for piece in turn.content or () if piece.text)


def _bytes_of(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _images_of(turn: _Turn) -> int:
    if turn.content is None or isinstance(turn.content, str):
        return 0
    return sum(piece.type == "image_url" for piece in turn.content)


def _read(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, param: str | None) -> T:
    try:
        return decoder.decode(data)
    except NOT_JSON as error:
        raise _wrong(param, str(error)) from None
    except RecursionError:
        raise _wrong(param, "it is nested too deeply") from None


def _wrong(param: str | None, why: str) -> RequestRefused:
    what = f"`{param}` cannot be read" if param else "The body is not a JSON object"
    return RequestRefused(400, "invalid_request", f"{what}: {why}", param=param)


WHOLE_ORDER = "understudy"


class ModelNames:
    """Maps a model name to candidates: the whole order, a configured order, or one candidate."""

    def __init__(
        self,
        candidates: Iterable[str],
        orders: Mapping[str, Sequence[str]],
        unusable: frozenset[str] = frozenset(),
    ) -> None:
        self._unusable = unusable
        self._candidates = tuple(dict.fromkeys(candidates))
        self._orders = {name: tuple(order) for name, order in orders.items()}
        self._providers = {candidate.partition("/")[0] for candidate in self._candidates}
        self._meanings = {name: (name,) for name in self._candidates} | self._orders

    def order(self, name: str) -> tuple[str, ...] | None:
        """Return the order to try; `None`: the whole one, for `understudy` and most unknown names.

        Raises `RequestRefused` (404) for an unknown model of a known provider, and for every model
        of one that cannot be asked: its client meant that provider, and would not notice that
        another one answered.
        """
        order = self._meanings.get(name)
        if order is not None:
            return order
        provider, slash, _ = name.partition("/")
        if slash and provider in self._unusable:
            raise RequestRefused(
                404,
                "model_not_found",
                f"{provider} is disabled or has no key here; `understudy doctor` says which.",
                param="model",
            )
        if not slash or provider not in self._providers:
            return None
        same = tuple(c for c in self._candidates if c.partition("/")[2] == name)
        if not same:
            raise RequestRefused(
                404, "model_not_found", f"{provider} has no model of this name here.", param="model"
            )
        return same

    def all(self) -> tuple[str, ...]:
        return (WHOLE_ORDER, *self._orders, *self._candidates)
