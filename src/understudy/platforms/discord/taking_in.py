"""Hands messages to the inbox: those of a channel in their order, and for as long as it takes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import chain, repeat
from typing import TypeVar

import structlog

from understudy.conversation.delivery import Inbound
from understudy.errors import StorageError

T = TypeVar("T")
Receive = Callable[[Inbound], Awaitable[object | None]]
"""None for a message that is known already; raises StorageError."""

_log = structlog.get_logger()
_FIRST_PAUSES_S = (0.2, 1.0, 4.0)
_PAUSE_S = 5.0


async def insist(call: Callable[[], Awaitable[T]], limit_s: float) -> T:
    """Ask a database that is busy or full again, until `limit_s` have passed; then StorageError."""
    clock = asyncio.get_running_loop().time
    began = clock()
    for pause_s in chain(_FIRST_PAUSES_S, repeat(_PAUSE_S)):
        try:
            return await call()
        except StorageError as error:
            if clock() - began + pause_s > limit_s:
                raise
            _log.warning("inbox.not_stored", error=str(error), again_in_s=pause_s)
        await asyncio.sleep(pause_s)
    raise AssertionError("the pauses never end")


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
