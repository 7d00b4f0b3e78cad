"""The words of a chat: what goes to a model and what comes back. Frozen data, no behaviour.

What the gateway passes through untouched travels as opaque bytes: `ChatRequest.extra` on the way
down, an event's `raw` frames on the way up.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A normalised image, ready to send: JPEG, or PNG where it is transparent."""

    data: bytes
    media_type: str
    width: int
    height: int
    name: str
    digest: str
    """Content hash; captions and stored bytes are found by it."""


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What one candidate is asked. Unset fields take the provider's configured values."""

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    """Body fields that must not be sent, configured or not: this model's server refuses them."""
    extra: bytes = b""
    """A JSON object whose members go into the upstream body untouched and win over the fields
    above; from the gateway it holds the client's `messages` too."""
    raw_completion: bool = False
    """Go on from the `prompt` in `extra`: a text, no conversation. `messages` is sent to no one."""


class UsageSource(StrEnum):
    REPORTED = "reported"
    DERIVED = "derived"
    """From figures of the server that are not its usage object, as llama.cpp's timings."""
    ESTIMATED = "estimated"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt. `input_tokens` includes cached, `output_tokens` includes reasoning."""

    input_tokens: int
    output_tokens: int
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    source: UsageSource = UsageSource.REPORTED
    cost_usd: float | None = None
    """As the server reported it; `None` is unknown, never free."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str
    raw: tuple[bytes, ...] = ()
    """The frames it came in, where they held nothing else and nothing was changed."""
    logprobs: tuple[bytes, ...] = ()
    """What the server told of the tokens: a JSON object for each frame that did."""


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str
    raw: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of one tool call; `arguments` is a fragment of JSON text."""

    index: int
    call_id: str | None
    name: str | None
    arguments: str
    raw: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The stream ended as it should; always the last event of a good attempt."""

    reason: str
    """`stop`, `length`, `tool_calls` or `content_filter`."""
    usage: Usage | None = None
    """`None` where the server told nothing."""


ChatEvent = TextDelta | ReasoningDelta | ToolCallDelta | Finished
