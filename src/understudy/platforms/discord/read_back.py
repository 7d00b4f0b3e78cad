"""Stores what a channel held before the bot's first message there (`conversation.read_back`).

Stored like any message that is not answered, so /reset, /forget me and deletions apply to it.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import discord
import structlog

from understudy.conversation.inbox import Channel
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Inbound
from understudy.platforms.discord.sender import UNREADABLE, retry_discord

_log = structlog.get_logger()

Read = Callable[[discord.Message], Awaitable[Inbound | None]]


class ReadBack:
    """`read` converts a message without fetching its images."""

    def __init__(
        self,
        router: MessageRouter,
        read: Read,
        most: Callable[[], int],
        oldest: Callable[[], datetime],
    ) -> None:
        self._router = router
        self._read = read
        self._most = most
        self._oldest = oldest
        self._done: set[Channel] = set()

    async def before(self, message: discord.Message, inbound: Inbound) -> None:
        """Read the channel back, once, if this is the first message of it to address the bot.

        Raises StorageError.
        """
        channel, most = Channel.of(inbound.place), self._most()
        here = channel.id == str(message.channel.id)
        if not (most and here) or inbound.addressed is None or channel in self._done:
            return
        if await self._router.store.knows(channel):
            self._done.add(channel)
            return
        count = 0
        for older in reversed(await self._history(message, most)):
            read = await self._read(older)
            if read is not None and (read.text or read.images):
                count += await self._router.remember(read)
        self._done.add(channel)
        _log.info("discord.read_back", channel=channel.id, messages=count)

    async def _history(self, message: discord.Message, most: int) -> list[discord.Message]:
        """Newest first; empty where it cannot be read."""

        async def read() -> list[discord.Message]:
            found = message.channel.history(
                limit=most, before=message, after=self._oldest(), oldest_first=False
            )
            return [older async for older in found]

        try:
            return await retry_discord(read)
        except UNREADABLE as error:
            _log.info(
                "discord.read_back_failed",
                channel=str(message.channel.id),
                error=type(error).__name__,
            )
            return []
