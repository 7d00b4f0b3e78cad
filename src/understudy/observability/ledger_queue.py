"""Stores the records of replies in the ledger, in batches outside the reply's path."""

import asyncio
from collections import deque
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Self

import structlog

from understudy.errors import StorageError
from understudy.observability import events
from understudy.routing.ledger import LedgerWriter
from understudy.routing.records import AttemptRecord, ReplyRecord

_BATCH = 512
_log = structlog.get_logger("understudy.ledger")


class LedgerQueue:
    """An observer that stores replies in batches. An async context manager; its exit stores what is
    queued.

    Replies that the ledger already holds, such as those committed with their batch, are unchanged:
    so every reply is queued here, and none is lost when another way fails. While the database
    refuses, replies wait; past `capacity` the oldest are dropped and logged. A transaction costs as
    much as fifty rows, so replies are collected for `gather_s` first.
    """

    def __init__(
        self,
        ledger: LedgerWriter,
        *,
        capacity: int = 10_000,
        retry_s: float = 5.0,
        gather_s: float = 0.5,
    ) -> None:
        self._ledger = ledger
        self._capacity = capacity
        self._retry_s = retry_s
        self._gather_s = gather_s
        self._queue: deque[ReplyRecord] = deque()
        self._storing: tuple[ReplyRecord, ...] = ()
        self._news = asyncio.Event()
        self._enough = asyncio.Event()
        self._closing = asyncio.Event()
        self._settled = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def attempt_ended(self, record: AttemptRecord) -> None:
        """Attempts are stored with their reply."""

    def reply_ended(self, record: ReplyRecord) -> None:
        if len(self._queue) >= self._capacity:
            self._queue.popleft()
            _log.error(events.LEDGER_LOST, replies=1)
        self._queue.append(record)
        self._news.set()
        if len(self._queue) >= _BATCH:
            self._enough.set()

    async def flush(self) -> None:
        """Wait until the queue is stored, however long the database refuses."""
        self._enough.set()
        async with self._settled:
            await self._settled.wait_for(lambda: not self._queue and not self._storing)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="ledger")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._news.set()
        self._enough.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._closing.is_set() or self._queue:
            await self._news.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), self._gather_s)
            self._news.clear()
            self._enough.clear()
            if not await self._store_gathered(len(self._queue)):
                _log.error(events.LEDGER_LOST, replies=len(self._queue))
                return
            async with self._settled:
                self._settled.notify_all()

    async def _store_gathered(self, gathered: int) -> bool:
        """Store that many; later records form the next batch. False on giving up."""
        while gathered > 0:
            if await self._store(min(gathered, _BATCH)):
                gathered -= _BATCH
            elif not await self._may_try_again():
                return False
        return True

    async def _store(self, count: int) -> bool:
        self._storing = tuple(islice(self._queue, count))
        for _ in self._storing:
            self._queue.popleft()
        try:
            await self._ledger.add(self._storing)
        except StorageError:
            self._queue.extendleft(reversed(self._storing))
            _log.warning(events.LEDGER_BEHIND, waiting=len(self._queue))
            return False
        finally:
            self._storing = ()
        return True

    async def _may_try_again(self) -> bool:
        """Wait before a retry; False when the process ends."""
        if self._closing.is_set():
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), self._retry_s)
        return True
