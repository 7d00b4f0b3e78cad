"""Requests to the ModelRouter, and the sinks that their replies go to."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from understudy.errors import ErrorClass
from understudy.llm.messages import ChatRequest, Output, ReplyIdentity
from understudy.routing.records import NOBODY, REPLY, AttemptRecord, Origin, ReplyRecord


class SinkKind(StrEnum):
    EDITABLE = "editable"
    """Text already shown can be replaced: Discord, the web page, the terminal."""
    APPEND_ONLY = "append_only"
    """What was sent stays sent: a streamed gateway answer."""
    HELD = "held"
    """Nothing is shown before the end: a gateway answer in one piece."""


class Fit(msgspec.Struct, frozen=True):
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


class Prompt(msgspec.Struct, frozen=True):
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
    text_bytes: int | None = None
    """UTF-8 bytes of its text, where they are counted already."""


BuildPrompt = Callable[[Fit], Prompt]


class ReplyRequest(msgspec.Struct, frozen=True):
    """One reply wanted by one sink."""

    id: str
    sink: str
    """`discord`, `web`, `terminal` or `gateway`."""
    build: BuildPrompt
    """Pure; called for each candidate, so that each gets the prompt that fits it."""
    origin: Origin = NOBODY
    """Copied into the ReplyRecord, for the ledger and the limits."""
    purpose: str = REPLY
    """Copied into the ReplyRecord: what the tokens are spent on."""
    may_trim_prompt: bool = True
    """False for the gateway: its clients' prompts are never trimmed."""
    images: int = 0
    """Images of the current batch: the hard need for vision."""
    degrade_images: bool = True
    """Send the text alone where no candidate with vision is usable."""
    tools: bool = False
    clean: bool = True
    """End a client's reply at a leaked end of turn of the chat template."""
    may_be_empty: bool = False
    """The request gives a reason for an empty reply: a stop sequence, or room for few tokens."""
    raw_completion: bool = False
    """Continue a text: only for models that do, and their text is not filtered."""
    order: tuple[str, ...] | None = None
    """Provider names or `provider/model` to walk instead of the configured order."""
    order_name: str = ""
    """Copied into the ReplyRecord: what people call `order`, and who chose it."""
    queue_key: str = ""
    """Requests of one key wait in one line of a provider's queue: the channel."""
    may_spend: Callable[[Origin], bool] | None = None
    """False once the day's money is spent: candidates that cost money are then left out. `None`
    is always."""
    last_user_text: str = ""
    previous_reply: str = ""
    """With `last_user_text`: a reply that only echoes either is no reply."""


class Answering(msgspec.Struct, frozen=True):
    """The attempt whose output follows."""

    provider: str
    label: str
    model: str
    attempt: int
    """Its number among the request's attempts, skips included."""
    tries: int = 1
    """Its number without the skips."""
    identity: ReplyIdentity = msgspec.field(default_factory=ReplyIdentity)
    """What the server's frames have in common, as far as it is known by now."""


class ReplySink(Protocol):
    """Where the output of a reply goes. Only `flush` may wait.

    The methods are called in the order `start`, `write`..., for each attempt that has output;
    `restart` precedes the `start` of a later one. `flush` is awaited in the task of the request
    after any of them; while it waits, the sink may get more, until reading from the server stops.
    What it raises ends the request.
    """

    @property
    def kind(self) -> SinkKind: ...

    def is_visible(self) -> bool:
        """Whether any text of this reply was shown to a person, or sent to a client."""
        ...

    def start(self, answering: Answering) -> None: ...

    def write(self, output: Output) -> None: ...

    def restart(self) -> None:
        """Discard all text so far; only for editable sinks."""
        ...

    def attempt_ended(self, record: AttemptRecord) -> None: ...

    def try_flush(self) -> bool:
        """Send what was written at once; False where that could wait, so that `flush` has to."""
        ...

    async def flush(self) -> None:
        """Send what was written since the last call."""
        ...


class HeldSink:
    """A sink that needs only the whole reply."""

    kind = SinkKind.HELD

    def is_visible(self) -> bool:
        return False

    def start(self, answering: Answering) -> None: ...

    def write(self, output: Output) -> None: ...

    def restart(self) -> None: ...

    def attempt_ended(self, record: AttemptRecord) -> None: ...

    def try_flush(self) -> bool:
        return True

    async def flush(self) -> None: ...


class ReplyEnded(msgspec.Struct, frozen=True):
    """What came of a request."""

    record: ReplyRecord
    text: str = ""
    """The whole visible reply; of a partial one, what stays visible."""
    finish_reason: str | None = None
    error_class: ErrorClass | None = None
    """Why the reply is partial, or the last failure of one that never came."""
    degraded: tuple[str, ...] = ()
    frames: tuple[bytes, ...] = ()
    """The server's last frames: finish, then usage."""
    identity: ReplyIdentity = msgspec.field(default_factory=ReplyIdentity)


Reply = Callable[[ReplyRequest, ReplySink], Awaitable[ReplyEnded]]
"""`ModelRouter.reply`."""
