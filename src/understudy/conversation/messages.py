"""Incoming messages: who wrote what, where, and to whom."""

from dataclasses import dataclass
from enum import StrEnum


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
    to_others: bool = False
    """Turns to somebody else: mentions or replies to another person and not to the bot."""
    reply_to: str | None = None
    images: tuple[ImageRef, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be taken in (an image refused, say), in words for the person."""
