"""Starts the batches of one channel when they are due."""

import asyncio
from collections.abc import Callable

import structlog

from understudy.conversation.batching import BatchRules, Ready, plan
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.inbox import LEASE_S, Batch, Channel, Claim
from understudy.errors import StorageError

_log = structlog.get_logger()
_TYPING_EXPIRES_S = 30.0
_STORAGE_RETRY_S = 1.0


class ChannelScheduler:
    """Has a running task only while something is due later."""

    def __init__(
        self,
        channel: Channel,
        rules: Callable[[], BatchRules],
        dependencies: Dependencies,
        start: Callable[[Batch], None],
        is_running: Callable[[str], bool],
    ) -> None:
        """`is_running`: whether this process works on the batch of that id."""
        self._channel = channel
        self._rules = rules
        self._dependencies = dependencies
        self._start = start
        self._is_running = is_running
        self._typing: dict[str, float] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return self._task is None or self._task.done()

    def typing(self, author_id: str, now: float) -> None:
        self._typing = {a: at for a, at in self._typing.items() if now - at < _TYPING_EXPIRES_S}
        self._typing[author_id] = now

    def wake(self) -> None:
        """Plan again: something has changed."""
        self._woken.set()
        if self.idle:
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        wake_at: float | None = None
        while self._woken.is_set() or wake_at is not None:
            if wake_at is not None:
                await self._wait_until(wake_at)
            self._woken.clear()
            try:
                wake_at = await self._start_due()
            except StorageError as error:
                _log.warning("inbox.unreadable", channel=self._channel.id, error=str(error))
                wake_at = self._dependencies.now() + _STORAGE_RETRY_S

    async def _wait_until(self, until: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, until - self._dependencies.now())):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _start_due(self) -> float | None:
        """Start what is due; returns when to plan again."""
        work = await self._dependencies.store.work(self._channel)
        schedule = plan(work, self._typing, self._rules(), self._dependencies.now())
        for batch_id in schedule.reclaim:
            if self._is_running(batch_id):
                # The lease ran out while the machine slept or the database was unavailable.
                continue
            now = self._dependencies.now()
            self._start_claimed(
                await self._dependencies.store.reclaim(batch_id, now + LEASE_S, now)
            )
        for ready in schedule.ready:
            now = self._dependencies.now()
            self._start_claimed(await self._dependencies.store.claim(self._claim(ready, now), now))
        return schedule.wake_at

    def _start_claimed(self, batch: Batch | None) -> None:
        if batch is None:
            # Another process has claimed it, so the plan is out of date.
            self._woken.set()
        else:
            self._start(batch)

    def _claim(self, ready: Ready, now: float) -> Claim:
        return Claim(
            batch_id=self._dependencies.new_id(),
            reply_id=self._dependencies.new_id(),
            nonce=self._dependencies.new_id(),
            seqs=tuple(message.seq for message in ready.messages),
            directed=ready.directed,
            lease_until=now + LEASE_S,
        )
