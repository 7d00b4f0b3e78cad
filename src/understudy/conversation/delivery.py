"""The seam between the message router and the platforms: messages in, replies out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from understudy.routing.attempts import OfflineReason, ReplyRecord


class Addressed(StrEnum):
    """How a message turns to the bot; none of these means it is general chat."""

    MENTION = "mention"
    REPLY = "reply"
    DM = "dm"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Author:
    id: str
    name: str
    is_bot: bool = False
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message was written. On the web a channel is a conversation of one browser."""

    platform: str
    """`discord`, `web` or `terminal`."""
    channel_id: str
    parent_id: str | None = None
    """The channel a thread hangs on."""
    guild_id: str | None = None
    private: bool = False
    age_restricted: bool = False


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image that was fetched, normalised and stored at arrival."""

    digest: str
    media_type: str
    width: int
    height: int
    name: str


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message as it arrived. (platform, message_id) is its identity everywhere."""

    message_id: str
    place: Place
    author: Author
    text: str
    sent_at: float
    """Wall clock, seconds since the epoch."""
    addressed: Addressed | None = None
    reply_to: str | None = None
    images: tuple[ImageRef, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be taken in (an image refused, say), in words for the person."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished reply, ready to be shown for good."""

    id: str
    text: str
    record: ReplyRecord
    partial: bool = False
    """Broke off and could not be made whole; the platform marks it as cut off."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OfflineNotice:
    """Said when every provider failed."""

    reply_id: str
    text: str
    reason: OfflineReason
    record: ReplyRecord
    retry_at: float | None = None


class Delivery(Protocol):
    """Shows one reply on one platform. Calls come one at a time, from one task."""

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

    async def aclose(self) -> None:
        """Stop typing signs and writer tasks; called once on every path, also on cancellation."""
        ...


@dataclass(frozen=True, slots=True)
class ReplyTask:
    """What a platform is told when a reply to a batch begins."""

    reply_id: str
    place: Place
    trigger_id: str
    """The message the reply answers: the last of the batch."""
    author: Author
    message_ids: tuple[str, ...]
    nonce: str
    """Derived from the batch: a second send of the same part carries the same one."""
    attempt: int = 1
    """Counts how often this batch was taken up; above 1 after a crash or a late answer."""
    offline_message_ids: tuple[str, ...] = ()
    """The offline message an earlier try of this batch left, for a late answer to take over."""
    waited_s: float = 0.0


OpenDelivery = Callable[[ReplyTask], Delivery]
