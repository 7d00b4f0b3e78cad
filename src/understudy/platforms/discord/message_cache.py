"""Recently seen and fetched messages as text, in memory only."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

import discord

from understudy.conversation.messages import Author
from understudy.conversation.surroundings import Passage
from understudy.platforms.discord.inbound import author_of
from understudy.platforms.discord.message_text import shortened, text_of
from understudy.platforms.discord.sender import UNREADABLE

_MOST = 2000
_MOST_CHARS = 2000
_FETCH_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One message, and the message it replies to."""

    passage: Passage
    author_id: int
    parent_id: int | None

    @property
    def author(self) -> Author:
        return self.passage.author


class MessageCache:
    """Holds the newest messages; `None` marks one that Discord does not give out."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, Seen | None] = OrderedDict()

    def add(self, message: discord.Message, me_id: int) -> Seen:
        """Remember a message as the gateway or a request gave it."""
        reference = message.reference
        replies = reference is not None and message.type is discord.MessageType.reply
        seen = Seen(
            Passage(
                message_id=str(message.id),
                author=author_of(message),
                text=shortened(text_of(message, me_id), _MOST_CHARS),
                at=message.created_at.timestamp(),
                own=message.author.id == me_id,
            ),
            message.author.id,
            reference.message_id if reference is not None and replies else None,
        )
        self._put(message.id, seen)
        return seen

    def forget(self, message_id: int) -> None:
        """The message was edited or deleted."""
        self._seen.pop(message_id, None)

    def forget_author(self, author_id: int) -> None:
        """The person asked for their messages to be forgotten."""
        theirs = [key for key, seen in self._seen.items() if seen and seen.author_id == author_id]
        for message_id in theirs:
            del self._seen[message_id]

    def clear(self) -> None:
        """Edits and deletions may have been missed."""
        self._seen.clear()

    async def get(self, client: discord.Client, channel_id: int, message_id: int) -> Seen | None:
        """The message, fetched where it is unknown; None where it cannot be read."""
        if message_id in self._seen:
            self._seen.move_to_end(message_id)
            return self._seen[message_id]
        me_id = client.user.id if client.user else 0
        channel = client.get_channel(channel_id)
        source = (
            channel
            if isinstance(channel, discord.abc.Messageable)
            else client.get_partial_messageable(channel_id)
        )
        try:
            async with asyncio.timeout(_FETCH_LIMIT_S):
                return self.add(await source.fetch_message(message_id), me_id)
        except (discord.NotFound, discord.Forbidden):
            self._put(message_id, None)
        except UNREADABLE:
            # Asked for again by the next reply.
            pass
        return None

    def _put(self, message_id: int, seen: Seen | None) -> None:
        self._seen[message_id] = seen
        self._seen.move_to_end(message_id)
        while len(self._seen) > _MOST:
            self._seen.popitem(last=False)
