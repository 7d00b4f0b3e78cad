"""The delivery interface: how the message router shows replies on a platform."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from understudy.conversation.inbox import Thoughts
from understudy.conversation.messages import Author, Place
from understudy.routing.records import OfflineReason, ReplyRecord


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished reply, ready to be shown for good."""

    id: str
    text: str
    record: ReplyRecord
    partial: bool = False
    """Incomplete after a failure; the platform marks it as cut off."""
    stopped: bool = False
    """A person stopped it: the text so far is the reply, without a mark."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OfflineNotice:
    """Every provider failed."""

    reply_id: str
    text: str
    """Empty where no message may be sent: to a bot, or again within a minute. The platform then
    only removes typing indicators and what it showed of the failed reply."""
    reason: OfflineReason
    record: ReplyRecord
    retry_at: float | None = None


@runtime_checkable
class ShowsThoughts(Protocol):
    """A delivery that also shows the model's reasoning. Others never receive it."""

    def think(self, text: str) -> None:
        """Take the whole reasoning so far; "" when an attempt starts again. Never raises."""
        ...

    def thoughts(self) -> Thoughts | None:
        """The reasoning of the finished reply, to be stored with it."""
        ...


class Delivery(Protocol):
    """Shows one reply on one platform. Calls come one at a time, from one task.

    One of `finish`, `offline` and `withdraw` ends a reply; none is called when this process loses
    the batch or shuts down, because then the reply continues elsewhere or later. `write`,
    `finish` and `offline` raise Undeliverable when the platform refuses for good (channel gone,
    no permission, own message deleted); any other exception counts as temporary, and the same
    batch is retried later with the same nonce.
    """

    async def earlier(self) -> tuple[str, ...]:
        """Called first when a batch older than two minutes is reclaimed after a crash: the ids of
        the platform's messages that already answer the trigger, and nothing is generated;
        `()` when there is none. A half-written reply may be adopted instead: return `()` and
        let `write` and `finish` continue in it.
        """
        ...

    def shown(self) -> bool:
        """Whether some text of this reply is visible."""
        ...

    async def write(self, text: str) -> None:
        """Receives the complete text so far. Later text replaces earlier text, also when it does
        not begin with it: the reply then started again. May show it later, or never."""
        ...

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        """Show the final text and return the platform's ids of the messages that carry it."""
        ...

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        """Show the offline message (or nothing) and return the ids of what was sent."""
        ...

    async def withdraw(self) -> None:
        """Remove what is visible of this reply: its trigger was deleted, or it was stopped before
        its first text. Neither `finish` nor `offline` follows."""
        ...

    async def aclose(self) -> None:
        """Stop typing indicators and writers; called once on every path, also on cancellation."""
        ...


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class ReplyContext:
    """What a platform needs to deliver the reply to a batch."""

    reply_id: str
    place: Place
    trigger_id: str
    """The message the reply answers: the last of the batch."""
    author: Author
    message_ids: tuple[str, ...]
    nonce: str
    """12 letters and digits per batch: a second send of the same part carries the same one. The
    offline message needs a different one, because the answer may still follow."""
    attempt: int = 1
    """How often this batch was claimed; above 1 after a crash or before a late answer."""
    offline_message_ids: tuple[str, ...] = ()
    """The offline message of an earlier try of this batch, which a late answer replaces."""
    waited_s: float = 0.0
    """Since the trigger arrived; above a few seconds only for late answers and after a crash."""
    replaces: tuple[str, ...] = ()
    """After Regenerate: the messages of the reply that this one replaces."""
    people: Callable[[], Mapping[str, str]] = dict
    """Author id → name of those who speak in the conversation, once the prompt is built; empty in
    private places."""
    bot_name: str = ""
    """The name under which the bot replies here."""
    may_send: Callable[[], Awaitable[bool]] = _always
    """Called right before each new message is sent: whether this process still holds the batch.
    After False send nothing more; the writing task is about to be cancelled."""


OpenDelivery = Callable[[ReplyContext], Delivery]
