"""Requests to models and the events of their replies. Data without behaviour.

What the gateway passes through unchanged stays encoded: `ChatRequest.extra` on the way to the
server, the `frames` of an event on the way back. A frame is the JSON of one stream event.
"""

from enum import StrEnum
from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class TextPart(msgspec.Struct, frozen=True):
    text: str


class ImagePart(msgspec.Struct, frozen=True):
    """A normalised image, ready to send: JPEG, or PNG where it is transparent."""

    data: bytes
    media_type: str
    width: int
    height: int
    name: str
    digest: str
    """Content hash; captions and stored bytes are found by it."""


Part = TextPart | ImagePart


class Message(msgspec.Struct, frozen=True):
    role: Role
    parts: tuple[Part, ...]


class ChatRequest(msgspec.Struct, frozen=True):
    """A request to one candidate. Unset fields take the provider's configured values."""

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    """Body fields that this model's server rejects; left out even where they are configured."""
    extra: bytes = b""
    """A JSON object whose members go into the upstream body unchanged and override the fields
    above; from the gateway it is the client's request, `messages` included. Members that the
    router sets, as `model`, are left out by the server's client."""
    raw_completion: bool = False
    """Continue the text of `prompt` in `extra`. `messages` is not sent."""


class UsageSource(StrEnum):
    REPORTED = "reported"
    DERIVED = "derived"
    """From figures of the server that are not its usage object, as llama.cpp's timings."""
    ESTIMATED = "estimated"
    NONE = "none"


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one attempt. `input_tokens` includes cached, `output_tokens` includes reasoning."""

    input_tokens: int
    output_tokens: int
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    source: UsageSource = UsageSource.REPORTED
    cost_usd: float | None = None
    """As the server reported it; `None` is unknown, never free."""


class TextDelta(msgspec.Struct, frozen=True):
    """Visible text. `frames` are those of the server that it came in, one output in each."""

    text: str
    frames: tuple[bytes, ...] = ()
    plain: bool = False
    """Whether its frames differ from an earlier frame of the reply in nothing but the text."""


class ReasoningDelta(msgspec.Struct, frozen=True):
    text: str
    frames: tuple[bytes, ...] = ()


class ToolCallDelta(msgspec.Struct, frozen=True):
    """A piece of one tool call; `arguments` is a fragment of JSON text."""

    index: int
    call_id: str | None
    name: str | None
    arguments: str
    frames: tuple[bytes, ...] = ()


class OtherDelta(msgspec.Struct, frozen=True):
    """A frame without text, reasoning or tool call: a role, an image, members unknown here."""

    frames: tuple[bytes, ...]
    media: bool = False
    """Whether it holds an image or audio, which is a reply by itself."""


class Finished(msgspec.Struct, frozen=True):
    """The stream ended as it should; always the last event of a good attempt."""

    reason: str
    """`stop`, `length`, `tool_calls` or `content_filter`."""
    usage: Usage | None = None
    """`None` where the server reported nothing."""
    frames: tuple[bytes, ...] = ()
    """The server's last frames: the one with the finish reason, then the one with the usage."""


Output = TextDelta | ReasoningDelta | ToolCallDelta | OtherDelta
ChatEvent = Output | Finished


class ReplyIdentity(msgspec.Struct):
    """What all frames of one reply share; `None` where the server sends no such member."""

    id: str | int | None = None
    created: bytes | None = None
    """As JSON."""
    model: str | None = None
    kind: str | None = None
    """What its frames call themselves (`object`)."""
