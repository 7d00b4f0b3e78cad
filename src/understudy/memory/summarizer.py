"""Makes summaries in the background, after replies, and on demand for `/compact`.

One request runs at a time. Where it may use an engine of the operator's own, it gives way: it waits
until no reply is being made, and is cancelled when one begins, because such an engine works on few
requests at once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from understudy.conversation.inbox import Channel, Line
from understudy.conversation.orders import Order
from understudy.conversation.remembered import KeptHistory
from understudy.errors import StorageError
from understudy.memory.background import BackgroundModels, GaveWay, ModelRules
from understudy.memory.store import MemoryStore, Summary, SummaryClaim
from understudy.memory.summary_request import SummaryRequest, author_ids
from understudy.routing.records import ReplyOutcome

PURPOSE = "summary"
_LEASE_S = 240.0
"""Longer than a request may take."""
_LINES = 200
"""Read for one request."""
_MOST_REQUESTS = 20
"""For one conversation in a row."""
_PAUSE_AFTER_FAILURE_S = 300.0
_QUEUE_LIMIT = 200
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SummaryRules:
    """The settings of one moment."""

    enabled: bool = True
    models: ModelRules = field(default_factory=ModelRules)
    max_tokens: int = 400
    bot_name: str = "Bot"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one conversation's summary."""

    lines: int = 0
    """How many were added to it."""
    complete: bool = False
    """Whether it covers all that it should."""


class Summarizer:
    """Owns the background task; closed with `aclose`."""

    def __init__(
        self,
        store: MemoryStore,
        models: BackgroundModels,
        rules: Callable[[Order], SummaryRules],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._models = models
        self._rules = rules
        self._now = now
        self._waiting: OrderedDict[Channel, KeptHistory] = OrderedDict()
        self._work_there = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failed_at: dict[Channel, float] = {}
        self._task: asyncio.Task[None] | None = None

    def schedule(self, kept: KeptHistory) -> None:
        """Summarize what the prompt of a reply left out; returns at once."""
        if not self._rules(kept.order).enabled or self._paused(kept.channel):
            return
        if kept.channel not in self._waiting and len(self._waiting) >= _QUEUE_LIMIT:
            return
        self._waiting[kept.channel] = kept
        self._idle.clear()
        self._work_there.set()
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="summaries")

    async def idle(self) -> None:
        """Wait until nothing is scheduled."""
        await self._idle.wait()

    async def compact(self, channel: Channel, before: int, order: Order = None) -> Outcome:
        """Summarize everything up to the position `before`, and leave it out of prompts from then
        on. `order` is the one chosen for the conversation. Raises StorageError."""
        return await self._summarize(KeptHistory(channel, before, before, order), compact=True)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _paused(self, channel: Channel) -> bool:
        failed_at = self._failed_at.get(channel)
        return failed_at is not None and self._now() - failed_at < _PAUSE_AFTER_FAILURE_S

    async def _work(self) -> None:
        while True:
            await self._work_there.wait()
            if self._rules(next(iter(self._waiting.values())).order).models.gives_way:
                await self._models.until_quiet()
            channel, kept = self._waiting.popitem(last=False)
            try:
                await self._catch_up(kept)
            except GaveWay:
                self._waiting.setdefault(channel, kept)
            except Exception as error:  # noqa: BLE001 - the root of this task
                self._failed(channel)
                _log.warning("summary.failed", error=type(error).__name__)
            if not self._waiting:
                self._work_there.clear()
                self._idle.set()

    async def _catch_up(self, kept: KeptHistory) -> None:
        summary = await self._store.summary(kept.channel)
        # Made ahead: it is continued only when lines leave the prompt that it does not cover.
        if summary.through < kept.left_out:
            outcome = await self._summarize(kept, compact=False)
            _log.info("summary.ended", lines=outcome.lines, complete=outcome.complete)

    async def _summarize(self, kept: KeptHistory, *, compact: bool) -> Outcome:
        """Up to the middle of what was kept."""
        total = 0
        for _ in range(_MOST_REQUESTS):
            claim = await self._store.claim_summary(kept.channel, self._now(), _LEASE_S)
            if claim is None:
                return Outcome(total)
            try:
                added = await self._extend(claim, kept, compact=compact)
            except BaseException:
                with suppress(StorageError):
                    await asyncio.shield(self._store.release_summary(claim))
                raise
            if added is None:
                return Outcome(total)
            if added == 0:
                return Outcome(total, complete=True)
            total += added
        return Outcome(total)

    async def _extend(self, claim: SummaryClaim, kept: KeptHistory, *, compact: bool) -> int | None:
        """Add some lines to a claimed summary, and end the claim. Returns how many; None where
        that failed, or a line has changed meanwhile."""
        read = await self._store.lines_to_summarize(claim, kept.middle, _LINES)
        lines = _complete(read)
        if not lines:
            return await self._add_nothing(claim, compact=compact)
        rules = self._rules(kept.order)
        request = SummaryRequest(claim.summary, lines, rules.bot_name, rules.max_tokens)
        ended = await self._models.generate(
            claim.channel, PURPOSE, request.build, rules.models, yields=not compact
        )
        made = None
        if ended.record.outcome is ReplyOutcome.DELIVERED:
            made = request.result(ended.text, self._now(), compact=compact)
        if made is None:
            _log.info("summary.not_made", reply_id=ended.record.request_id)
            self._failed(claim.channel)
            await self._store.release_summary(claim)
            return None
        saved = await self._store.save_summary(claim, made, author_ids(request.covered))
        if not saved:
            _log.info("summary.outdated", reply_id=ended.record.request_id)
            await self._store.release_summary(claim)
            return None
        _log.info("summary.made", reply_id=ended.record.request_id, lines=len(request.covered))
        return len(request.covered)

    async def _add_nothing(self, claim: SummaryClaim, *, compact: bool) -> int:
        summary = claim.summary
        if compact and summary.compacted < summary.through:
            whole = Summary(
                summary.text, summary.first, summary.through, summary.through, summary.made_at
            )
            await self._store.save_summary(claim, whole, ())
        else:
            await self._store.release_summary(claim)
        return 0

    def _failed(self, channel: Channel) -> None:
        """Leave this conversation alone for a while; prompts are as without a summary."""
        now = self._now()
        recent = {c: at for c, at in self._failed_at.items() if now - at < _PAUSE_AFTER_FAILURE_S}
        self._failed_at = {**recent, channel: now}


def _complete(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Without the last position where more lines of it may follow."""
    if len(lines) < _LINES or lines[0].position == lines[-1].position:
        return lines
    return tuple(line for line in lines if line.position != lines[-1].position)
