"""Passes messages, edits and deletions to the MessageRouter in order, with retries."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial

import discord

from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Inbound
from understudy.platforms.discord.auto_thread import AutoThreads
from understudy.platforms.discord.backfill import GapTracker
from understudy.platforms.discord.inbound import PLATFORM
from understudy.platforms.discord.read_back import ReadBack
from understudy.retry import retry_storage


class SerialQueue:
    """Runs work of one key serially, in order of arrival."""

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
"""None for a message to be ignored."""


class Ingest:
    """Every method raises StorageError when the database was unavailable for `patience_s`."""

    def __init__(
        self,
        router: MessageRouter,
        read: Read,
        gaps: GapTracker,
        patience_s: Callable[[], float],
        read_back: ReadBack | None = None,
        threads: AutoThreads | None = None,
    ) -> None:
        self._router = router
        self._read = read
        self._gaps = gaps
        self._read_back = read_back
        self._threads = threads
        self._patience_s = patience_s
        self._messages = SerialQueue()
        """Per message: an edit must not overtake the message itself."""
        self._authors = SerialQueue()
        """Per author: a question must not overtake the image it is about."""
        self._arrivals = SerialQueue()
        """Per channel, for new messages: one that comes when a gap has just been filled must not
        overtake those that still wake up from waiting for it."""
        self._channels = SerialQueue()
        """Per channel: a message that is stored at a second try must not follow the next one."""

    async def new(self, message: discord.Message) -> None:
        author = (message.channel.id, message.author.id)
        async with self._messages.of(message.id), self._authors.of(author):
            inbound = await self._read(message)
            if inbound is None:
                return
            inbound = await self._moved(inbound, message)
            async with self._arrivals.of(message.channel.id):
                await self._gaps.wait(shard_of(message.guild), message.channel.id)
                await self._store(inbound, message)

    async def edited(self, message: discord.Message) -> None:
        async with self._messages.of(message.id):
            if inbound := await self._read(message):
                await self._gaps.wait(shard_of(message.guild), message.channel.id)
                await retry_storage(partial(self._router.edited, inbound), self._patience_s())

    async def deleted(self, guild: discord.Guild | None, channel_id: int, message_id: int) -> None:
        async with self._messages.of(message_id):
            await self._gaps.wait(shard_of(guild), channel_id)
            deletion = partial(self._router.deleted, PLATFORM, str(message_id))
            await retry_storage(deletion, self._patience_s())

    async def store(self, inbound: Inbound, message: discord.Message | None = None) -> bool:
        """Whether the message was new. With `message`, its channel is read back before, or a thread
        is made for it."""
        if message is not None:
            inbound = await self._moved(inbound, message)
        return await self._store(inbound, message)

    async def _moved(self, inbound: Inbound, message: discord.Message) -> Inbound:
        """The message in the thread that is made for it, where one is wanted."""
        return inbound if self._threads is None else await self._threads.moved(message, inbound)

    async def _store(self, inbound: Inbound, message: discord.Message | None) -> bool:
        async with self._channels.of(inbound.place.channel_id):
            if self._read_back is not None and message is not None:
                older = partial(self._read_back.before, message, inbound)
                await retry_storage(older, self._patience_s())
            decision = await retry_storage(
                partial(self._router.receive, inbound), self._patience_s()
            )
        return decision is not None


def shard_of(guild: discord.Guild | None) -> int:
    """Direct messages arrive on the first shard."""
    return guild.shard_id if guild else 0
