"""Incoming messages: who wrote what, where, and to whom."""

from dataclasses import dataclass
from enum import StrEnum


class Addressed(StrEnum):
    """How a message addresses the bot; `None` in `Inbound.addressed` is general chat."""

    MENTION = "mention"
    REPLY = "reply"
    DM = "dm"
    NAME = "name"
    THREAD = "thread"
    """In a thread that the bot made to answer there."""


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
    """Of a thread: its parent channel."""
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
class AttachedText:
    """The text of a file that was attached to a message, taken out at arrival."""

    name: str
    text: str
    """Without its middle where it was longer than `attachments.max_chars`."""
    spoken: bool = False
    """The transcript of a voice message."""


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
    to_others: bool = False
    """Mentions or replies to another person and not to the bot."""
    reply_to: str | None = None
    images: tuple[ImageRef, ...] = ()
    files: tuple[AttachedText, ...] = ()
    unlimited: bool = False
    """Exempt from rate limits: written by the operator at the same machine. Not stored."""
    address: str = ""
    """The network the author writes from, where the platform knows it: limited like an author,
    who could otherwise be many. Not stored."""
    notes: tuple[str, ...] = ()
    """What could not be read (a refused image, for example), as sentences for the author."""
