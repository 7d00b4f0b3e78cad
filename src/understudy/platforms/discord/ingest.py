"""What happens to messages, told to the MessageRouter: in order, and for as long as it takes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial

import discord

from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Inbound
from understudy.platforms.discord.backfill import GapTracker
from understudy.platforms.discord.inbound import PLATFORM
from understudy.retry import retry_storage


class SerialQueue:
    """Work under one key is done one after the other, in the order in which it came."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._waiting: Counter[Hashable] = Counter()

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        self._waiting[key] += 1
        try:
            async with self._locks.setdefault(key, asyncio.Lock()):
                yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._locks[key]


Read = Callable[[discord.Message], Awaitable[Inbound | None]]
"""None for a message that is none of the bot's business."""


class Ingest:
    """Every method raises StorageError when the database has refused for `patience_s`."""

    def __init__(
        self, router: MessageRouter, read: Read, gaps: GapTracker, patience_s: Callable[[], float]
    ) -> None:
        self._router = router
        self._read = read
        self._gaps = gaps
        self._patience_s = patience_s
        self._messages = SerialQueue()
        """A change that is told before its message is stored would change nothing."""
        self._authors = SerialQueue()
        """Who shows a picture and asks about it must not have asked before it has come."""
        self._channels = SerialQueue()
        """A message that is stored at the second try must not come after the next one."""

    async def new(self, message: discord.Message) -> None:
        author = (message.channel.id, message.author.id)
        async with self._messages.of(message.id), self._authors.of(author):
            if inbound := await self._heard(message):
                await self.take(inbound)

    async def edited(self, message: discord.Message) -> None:
        async with self._messages.of(message.id):
            if inbound := await self._heard(message):
                await retry_storage(partial(self._router.edited, inbound), self._patience_s())

    async def deleted(self, guild: discord.Guild | None, channel_id: int, message_id: int) -> None:
        async with self._messages.of(message_id):
            await self._gaps.wait(shard_of(guild), channel_id)
            gone = partial(self._router.deleted, PLATFORM, str(message_id))
            await retry_storage(gone, self._patience_s())

    async def take(self, inbound: Inbound) -> bool:
        """Whether the message was new."""
        async with self._channels.of(inbound.place.channel_id):
            decided = await retry_storage(
                partial(self._router.receive, inbound), self._patience_s()
            )
        return decided is not None

    async def _heard(self, message: discord.Message) -> Inbound | None:
        """What it says, once nothing before it in its channel is still to be caught up."""
        inbound = await self._read(message)
        if inbound is not None:
            await self._gaps.wait(shard_of(message.guild), message.channel.id)
        return inbound


def shard_of(guild: discord.Guild | None) -> int:
    """Direct messages come through the first shard."""
    return guild.shard_id if guild else 0
