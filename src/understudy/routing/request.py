"""What a sink asks of the ModelRouter, and the events it gets back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from understudy.errors import ErrorClass
from understudy.llm.messages import ChatRequest, ReasoningDelta, TextDelta, ToolCallDelta
from understudy.routing.records import NOBODY, AttemptRecord, Origin, ReplyRecord


class SinkKind(StrEnum):
    EDITABLE = "editable"
    """Text already shown can be replaced: Discord, the web page, the terminal."""
    APPEND_ONLY = "append_only"
    """What was sent stays sent: a streamed gateway answer."""
    HELD = "held"
    """Nothing is shown before the end: `ask`, a gateway answer in one piece."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a prompt must fit: facts about the candidate it is built for."""

    n_ctx: int | None
    """Context length in tokens, prompt and reply together; `None` is unknown."""
    reply_tokens: int
    """Tokens to keep free for the reply."""
    vision: bool
    """Whether image parts may be sent."""
    tokens_per_char: float
    """Tokens per UTF-8 byte of text, which in English is a character. Learned from this model's
    reported usage; conservative before that."""
    shrink: float = 1.0
    """Below 1 after the server called the prompt too long."""
    model: str = ""
    """Its name: model families count images differently."""


def reserved_reply(n_ctx: int, reply_tokens: int) -> int:
    """How many tokens of a context stay free for the reply: never more than half of it."""
    return min(reply_tokens, n_ctx // 2)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request built for one candidate, with what it is thought to cost."""

    request: ChatRequest
    input_tokens: int
    """Estimated, images included."""
    images: int = 0
    degraded: tuple[str, ...] = ()
    """What had to be left out for this candidate, such as `images`."""
    trimmed: bool = False
    """Whether more room would have held more of the conversation."""
    image_tokens: int = 0
    """The share of `input_tokens` that the images have."""


BuildPrompt = Callable[[Fit], Prompt]


def _always() -> bool:
    return True


def _solvent(_: Origin) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """One reply wanted by one sink."""

    id: str
    sink: str
    """`discord`, `web`, `terminal` or `gateway`."""
    kind: SinkKind
    build: BuildPrompt
    """Pure; called anew for each candidate, so that each gets the prompt that fits it."""
    origin: Origin = NOBODY
    """Copied into the ReplyRecord, for the ledger and the limits."""
    may_trim_prompt: bool = True
    """False for the gateway: its clients' prompts are never trimmed."""
    images: int = 0
    """Images of the current batch: the hard need for vision."""
    degrade_images: bool = True
    """When nothing that can see is usable: send the text alone rather than nothing."""
    tools: bool = False
    raw_completion: bool = False
    """Go on from a bare prompt: only for models that do, and their text stays as they wrote it."""
    order: tuple[str, ...] | None = None
    """Provider names or `provider/model` to walk instead of the configured order."""
    queue_key: str = ""
    """Whose turn it is in a provider's queue: the channel."""
    shown: Callable[[], bool] = _always
    """Asked of an editable sink: has any of the text yielded so far been shown to people?"""
    may_spend: Callable[[Origin], bool] = _solvent
    """False once the day's money is spent: candidates that cost money are then left out."""
    last_user_text: str = ""
    previous_reply: str = ""
    """With `last_user_text`: a reply that only echoes either is no reply."""


@dataclass(frozen=True, slots=True)
class Answering:
    """Whose text follows: right before the first output of each attempt that yields any."""

    provider: str
    label: str
    model: str
    attempt: int
    """Its number among the request's attempts, skips included."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """Forget all text so far; the next attempt's text replaces it. Only for editable sinks,
    and for them after any attempt that had yielded text."""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    record: AttemptRecord


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """Always the last event."""

    record: ReplyRecord
    text: str = ""
    """The whole visible reply; of a partial one, what stays on the screen."""
    finish_reason: str | None = None
    error_class: ErrorClass | None = None
    """Why the reply is partial, or the last failure of one that never came."""
    degraded: tuple[str, ...] = field(default=())


RouterEvent = (
    TextDelta | ReasoningDelta | ToolCallDelta | Answering | Restarted | AttemptEnded | ReplyEnded
)
