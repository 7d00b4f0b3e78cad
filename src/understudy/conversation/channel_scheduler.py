"""One channel's turns: looks at what is to do there and starts each batch when its time comes."""

import asyncio
from collections.abc import Callable

import structlog

from understudy.conversation.batching import BatchRules, Ready, plan
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.inbox import LEASE_S, Batch, Channel, Claim
from understudy.errors import StorageError

_log = structlog.get_logger()
_TYPING_KEPT_S = 30.0
_TROUBLE_S = 1.0


class ChannelScheduler:
    """Has a task only while there is something to wait for."""

    def __init__(
        self,
        channel: Channel,
        rules: Callable[[], BatchRules],
        out: Dependencies,
        start: Callable[[Batch], None],
        answers: Callable[[str], bool],
    ) -> None:
        """`answers` tells whether this process works on the batch of that id."""
        self._channel = channel
        self._rules = rules
        self._out = out
        self._start = start
        self._answers = answers
        self._typing: dict[str, float] = {}
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return self._task is None or self._task.done()

    def typing(self, author_id: str, now: float) -> None:
        self._typing = {a: at for a, at in self._typing.items() if now - at < _TYPING_KEPT_S}
        self._typing[author_id] = now

    def poke(self) -> None:
        """Something has changed: look again."""
        self._poked.set()
        if self.idle:
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        wake_at: float | None = None
        while self._poked.is_set() or wake_at is not None:
            if wake_at is not None:
                await self._rest(wake_at)
            self._poked.clear()
            try:
                wake_at = await self._look()
            except StorageError as error:
                _log.warning("inbox.unreadable", channel=self._channel.id, error=str(error))
                wake_at = self._out.now() + _TROUBLE_S

    async def _rest(self, until: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, until - self._out.now())):
                await self._poked.wait()
        except TimeoutError:
            return

    async def _look(self) -> float | None:
        """Start what is ready; when to look again."""
        work = await self._out.store.work(self._channel)
        todo = plan(work, self._typing, self._rules(), self._out.now())
        for batch_id in todo.retake:
            if self._answers(batch_id):
                # The machine slept, or the database refused to renew: the lease ran out meanwhile.
                continue
            now = self._out.now()
            self._begin(await self._out.store.retake(batch_id, now + LEASE_S, now))
        for ready in todo.ready:
            now = self._out.now()
            self._begin(await self._out.store.claim(self._claim(ready, now), now))
        return todo.wake_at

    def _begin(self, batch: Batch | None) -> None:
        if batch is None:
            # Another process was faster, so the plan is out of date.
            self._poked.set()
        else:
            self._start(batch)

    def _claim(self, ready: Ready, now: float) -> Claim:
        return Claim(
            batch_id=self._out.new_id(),
            reply_id=self._out.new_id(),
            nonce=self._out.new_id(),
            seqs=tuple(message.seq for message in ready.messages),
            directed=ready.directed,
            lease_until=now + LEASE_S,
        )
