"""Hands messages to the inbox: those of a channel in their order, and for as long as it takes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from understudy.conversation.delivery import Inbound
from understudy.conversation.insisting import insist

Receive = Callable[[Inbound], Awaitable[object | None]]
"""None for a message that is known already; raises StorageError."""


class TakingIn:
    def __init__(self, receive: Receive, limit_s: Callable[[], float]) -> None:
        self._receive = receive
        self._limit_s = limit_s
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()

    async def take(self, inbound: Inbound) -> bool:
        """Whether the message was new. Raises StorageError when the database refused too long."""
        async with self._turn(inbound.place.channel_id):
            decided = await insist(lambda: self._receive(inbound), self._limit_s())
        return decided is not None

    @asynccontextmanager
    async def _turn(self, channel_id: str) -> AsyncIterator[None]:
        """A message that is stored at the second try must not come after the next one."""
        self._waiting[channel_id] += 1
        try:
            async with self._turns.setdefault(channel_id, asyncio.Lock()):
                yield
        finally:
            self._waiting[channel_id] -= 1
            if not self._waiting[channel_id]:
                del self._waiting[channel_id], self._turns[channel_id]
