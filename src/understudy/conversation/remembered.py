"""What a prompt is given besides the conversation: notes, excerpts, and a summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from understudy.conversation.inbox import Channel, Line, StoredMessage
from understudy.conversation.messages import Author
from understudy.conversation.orders import Order


@dataclass(frozen=True, slots=True)
class Remembered:
    """Everything is data written by people or by a model, never an instruction."""

    notes: tuple[tuple[Author, str], ...] = ()
    """Notes of the people being answered, oldest first."""
    excerpts: tuple[Line, ...] = ()
    """Earlier lines that match what is asked, best first."""
    excerpt_tokens: int = 0
    """The most tokens that the excerpts may cost."""
    summary: str = ""
    summary_first: int = 0
    """Position of the first line that the summary covers."""
    compacted: int = 0
    """Lines up to this position are replaced by the summary."""


NOTHING = Remembered()


@dataclass(frozen=True, slots=True)
class KeptHistory:
    """Which lines of the history the prompt of a reply had."""

    channel: Channel
    left_out: int
    """Position of the newest line that was left out."""
    middle: int
    """Position of the line in the middle of those it had."""
    order: Order = None
    """The order that was chosen for the reply."""


class Memory(Protocol):
    """What the conversation uses of the memory."""

    async def remember(self, batch: Sequence[StoredMessage]) -> Remembered:
        """For the reply to `batch`. Raises StorageError."""
        ...

    def reply_started(self) -> None:
        """A reply begins: background work must not delay it."""
        ...

    def reply_ended(self, kept: KeptHistory | None) -> None:
        """`kept` is None where nothing was left out of the prompt, or the reply failed."""
        ...


class NoMemory:
    """Remembers nothing."""

    async def remember(self, batch: Sequence[StoredMessage]) -> Remembered:  # noqa: ARG002
        return NOTHING

    def reply_started(self) -> None: ...

    def reply_ended(self, kept: KeptHistory | None) -> None: ...
