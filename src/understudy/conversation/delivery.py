"""The interface between the message router and the platforms: replies out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from understudy.conversation.messages import Author, Place
from understudy.routing.records import OfflineReason, ReplyRecord


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished reply, ready to be shown for good."""

    id: str
    text: str
    record: ReplyRecord
    partial: bool = False
    """Broke off and could not be made whole; the platform marks it as cut off."""
    stopped: bool = False
    """A person stopped it: what was said so far is the reply, without any mark."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OfflineNotice:
    """Every provider failed."""

    reply_id: str
    text: str
    """Empty where nothing may be said: to a bot, or again within the same minute. The platform
    then only takes back its typing signs and what it showed of the failed reply."""
    reason: OfflineReason
    record: ReplyRecord
    retry_at: float | None = None


class Delivery(Protocol):
    """Shows one reply on one platform. Calls come one at a time, from one task.

    One of `finish`, `offline` and `withdraw` ends a reply; none does when this process loses the
    batch or shuts down, for then the reply goes on elsewhere or later. `write`, `finish` and
    `offline` raise Undeliverable when the platform refuses for good (channel gone, no permission,
    own message deleted); any other exception is taken for passing trouble, and the same batch is
    tried again later with the same nonce.
    """

    async def earlier(self) -> tuple[str, ...]:
        """Asked first when a batch older than two minutes is taken up after a crash: the ids of
        the platform's messages that already answer the trigger, and nothing is generated;
        `()` when there is none. A half-written one may be adopted instead: return `()` and let
        `write` and `finish` go on in it.
        """
        ...

    def shown(self) -> bool:
        """Whether a person can already see text of this reply."""
        ...

    async def write(self, text: str) -> None:
        """Take the whole text so far. Later text replaces earlier text, also when it does not
        begin with it: the reply then started again. May show it later, or never."""
        ...

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        """Show the final text and return the platform's ids of the messages that carry it."""
        ...

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        """Show the offline message (or nothing) and return the ids of what was sent."""
        ...

    async def withdraw(self) -> None:
        """Take back what is shown of this reply: its trigger was deleted, or it was stopped before
        it said anything. Neither `finish` nor `offline` follows."""
        ...

    async def aclose(self) -> None:
        """Stop typing signs and writer tasks; called once on every path, also on cancellation."""
        ...


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class ReplyContext:
    """What a platform is told when a reply to a batch begins."""

    reply_id: str
    place: Place
    trigger_id: str
    """The message the reply answers: the last of the batch."""
    author: Author
    message_ids: tuple[str, ...]
    nonce: str
    """12 letters and digits, derived from the batch: a second send of the same part carries the
    same one. The offline message needs one of its own, since the answer may still come."""
    attempt: int = 1
    """Counts how often this batch was taken up; above 1 after a crash or a late answer."""
    offline_message_ids: tuple[str, ...] = ()
    """The offline message an earlier try of this batch left, for a late answer to take over."""
    waited_s: float = 0.0
    """Since the trigger arrived; above a few seconds only for late answers and after a crash."""
    replaces: tuple[str, ...] = ()
    """The messages of the reply that this one is a new version of, after Regenerate."""
    may_send: Callable[[], Awaitable[bool]] = _always
    """To be asked right before each new message is sent: whether this process still holds the
    batch. After False send nothing more; the task that writes is about to be cancelled."""


OpenDelivery = Callable[[ReplyContext], Delivery]
