"""One claimed batch: builds the request, generates, delivers, then settles or postpones."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum

import structlog

from understudy.conversation.activity import ActivityTracker
from understudy.conversation.delivery import (
    Delivery,
    OfflineNotice,
    OpenDelivery,
    Reply,
    ReplyContext,
    ShowsThoughts,
)
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.inbox import (
    Batch,
    BatchResult,
    BatchState,
    Channel,
    Postponement,
    Sent,
    Thoughts,
    is_late,
    is_recovering,
)
from understudy.conversation.lease import Lease
from understudy.conversation.offline_message import next_try_at, offline_text
from understudy.conversation.request_builder import RequestBuilder
from understudy.errors import StorageError, Undeliverable
from understudy.llm.messages import Output, ReasoningDelta, TextDelta
from understudy.retry import retry_storage
from understudy.routing.records import (
    AttemptRecord,
    OfflineReason,
    ReplyOutcome,
    ReplyRecord,
)
from understudy.routing.request import Answering, ReplyEnded, SinkKind

_log = structlog.get_logger()
_CHECK_CHANNEL_S = 120.0
"""Discord forgets a nonce after a while; for older batches the channel's history is checked."""
_WITH_VERSIONS = ("web",)
"""Platforms that show earlier versions of a reply."""
_RETRY_S = 15.0
_MOST_TRIES = 3
_LEAST_LIMIT_S = 300.0
_STORE_LIMIT_S = 600.0
"""How long storing a result is retried while the database is busy or full."""


class Interruption(StrEnum):
    STOPPED = "stopped"
    """A person pressed Stop."""
    DELETED = "deleted"
    """The message it answers was deleted."""
    EDITED = "edited"
    """A message it answers was edited or deleted."""
    LOST = "lost"
    """Another process has claimed the batch."""


class DeliverySink:
    """Shows a reply's text on its platform, whole each time, and collects its attempts."""

    kind = SinkKind.EDITABLE

    def __init__(self, delivery: Delivery, own_text: Callable[[str], str]) -> None:
        self.text = ""
        self.attempts: list[AttemptRecord] = []
        self._delivery = delivery
        self._thinker = delivery if isinstance(delivery, ShowsThoughts) else None
        self._thoughts = ""
        self._own_text = own_text
        self._changed = False

    def thoughts(self) -> Thoughts | None:
        """The reasoning that the platform has shown."""
        return None if self._thinker is None else self._thinker.thoughts()

    def is_visible(self) -> bool:
        return self._delivery.shown()

    def start(self, answering: Answering) -> None:
        """The platform learns who answered from the record."""

    def write(self, output: Output) -> None:
        if isinstance(output, TextDelta):
            self.text += output.text
            self._changed = True
        elif isinstance(output, ReasoningDelta) and self._thinker is not None:
            self._thoughts += output.text
            self._thinker.think(self._thoughts)

    def restart(self) -> None:
        self.text = ""
        if self._thoughts and self._thinker is not None:
            self._thoughts = ""
            self._thinker.think("")
        self._changed = False

    def attempt_ended(self, record: AttemptRecord) -> None:
        self.attempts.append(record)

    def try_flush(self) -> bool:
        return not self._changed

    async def flush(self) -> None:
        if self._changed:
            self._changed = False
            await self._delivery.write(self._own_text(self.text))


class ReplyTask:
    """Generates and delivers the reply to one claimed batch, then settles or postpones it."""

    def __init__(
        self,
        batch: Batch,
        open_delivery: OpenDelivery,
        dependencies: Dependencies,
        activity: ActivityTracker,
    ) -> None:
        self.batch = batch
        self.builder = RequestBuilder.of(batch, dependencies)
        self._dependencies = dependencies
        self._activity = activity
        self._lease = Lease(dependencies.store, batch.id, batch.lease_until, dependencies.now)
        self._delivery = open_delivery(self._context())
        self._interrupted: asyncio.Future[Interruption] | None = _pending_interruption()
        self._shown = DeliverySink(self._delivery, self.builder.own_text)

    @property
    def channel(self) -> Channel:
        return Channel.of(self.builder.place)

    @property
    def shown(self) -> bool:
        return self._delivery.shown()

    def interrupt(self, why: Interruption) -> None:
        """Interrupt generation; no effect once the model has finished."""
        if self._interrupted is None:
            return
        if self._interrupted.done():
            # The first interruption is not handled yet; this one applies to the next try.
            self._interrupted = _pending_interruption()
        self._interrupted.set_result(why)

    def restart(self) -> None:
        """Generate again with the current messages; no effect once some of the reply is visible."""
        if not self.shown:
            self.interrupt(Interruption.EDITED)

    async def run(self) -> None:
        """Run to the end; raises nothing but CancelledError."""
        renewal = asyncio.create_task(self._lease.renew_until_lost())
        renewal.add_done_callback(self._lease_ended)
        try:
            await self._answer()
        except asyncio.CancelledError:
            with suppress(StorageError):
                await asyncio.shield(self._dependencies.store.release(self.batch.id))
            raise
        except Undeliverable:
            _log.warning("reply.undeliverable", reply_id=self.batch.reply_id)
            await self._settle(BatchResult(BatchState.FAILED))
        except Exception as error:  # noqa: BLE001 - the root of this task
            _log.exception(
                "reply.crashed", reply_id=self.batch.reply_id, error=type(error).__name__
            )
            await self._retry_later()
        finally:
            renewal.cancel()
            await asyncio.wait({renewal})
            await self._delivery.aclose()

    async def _answer(self) -> None:
        if await self._is_over():
            return
        limited_until = await self._dependencies.reserve(self.batch.reply_id, self.builder.origin)
        if limited_until is not None:
            await self._fail(self._record(OfflineReason.BUDGET, limited_until))
            return
        result = await self._generate_until_interrupted()
        while result is Interruption.EDITED:
            self._shown = DeliverySink(self._delivery, self.builder.own_text)
            await self.builder.reload()
            result = await self._generate_until_interrupted()
        if isinstance(result, Interruption):
            await self._cancel(result)
        else:
            await self._finish(result)

    async def _is_over(self) -> bool:
        """Whether an earlier try was delivered, or the batch is too old to answer."""
        if self.batch.replaces:
            return False
        limit_s = self._dependencies.settings().conversation.late_answer_minutes * 60
        if self._waited_s() > max(limit_s, _LEAST_LIMIT_S):
            _log.warning("batch.expired", reply_id=self.batch.reply_id, waited_s=self._waited_s())
            await self._settle(BatchResult(BatchState.FAILED))
            return True
        if not is_recovering(self.batch) or self._waited_s() < _CHECK_CHANNEL_S:
            return False
        ids = await self._delivery.earlier()
        if ids:
            sent = Sent("", ids, self.builder.me)
            await self._settle(BatchResult(BatchState.ANSWERED, sent))
        return bool(ids)

    async def _generate_until_interrupted(self) -> ReplyEnded | Interruption:
        """Generate until the model ends or the reply is interrupted."""
        assert self._interrupted is not None
        interrupted = self._interrupted
        generation = asyncio.create_task(self._generate(self._delivery))
        try:
            first: set[asyncio.Future[ReplyEnded] | asyncio.Future[Interruption]]
            first = {generation, interrupted}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            was_interrupted = interrupted.done()
            if not was_interrupted:
                self._interrupted = None
            elif self._interrupted is interrupted:
                # Closing the stream takes time; an interruption meanwhile applies to the next try.
                self._interrupted = _pending_interruption()
        finally:
            generation.cancel()
            await asyncio.wait({generation})
        return interrupted.result() if was_interrupted else generation.result()

    async def _generate(self, delivery: Delivery) -> ReplyEnded:
        request = await self.builder.build()
        self._shown = DeliverySink(delivery, self.builder.own_text)
        return await self._dependencies.reply(request, self._shown)

    async def _finish(self, ended: ReplyEnded) -> None:
        text = self.builder.own_text(ended.text) or ended.text.strip()
        outcome = ended.record.outcome
        if outcome in (ReplyOutcome.DELIVERED, ReplyOutcome.PARTIAL) and text:
            notes = self.builder.notes(ended)
            partial = outcome is ReplyOutcome.PARTIAL
            await self._deliver(
                Reply(self.batch.reply_id, text, ended.record, partial=partial, notes=notes)
            )
        elif outcome is ReplyOutcome.CANCELLED:
            await self._cancel(Interruption.STOPPED)
        else:
            await self._fail(ended.record)

    async def _deliver(self, reply: Reply) -> None:
        if not await self._lease.is_held():
            return
        ids = await self._delivery.finish(reply)
        sent = Sent(
            reply.text,
            ids,
            self.builder.me,
            thoughts=self._shown.thoughts(),
            keeps_versions=self.builder.place.platform in _WITH_VERSIONS,
        )
        # The router's observers store the record of a stopped reply: this one lacks the attempt
        # that was cancelled.
        record = None if reply.stopped else reply.record
        await self._settle(BatchResult(BatchState.ANSWERED, sent, record))
        with suppress(StorageError):
            await self.builder.save_effects()
        answered = self.builder.answered(reply.text)
        for follow_up in self._dependencies.follow_ups:
            follow_up(answered)
        author_id = answered.author.id
        self._activity.record_reply(
            self.channel, author_id, self._dependencies.now(), directed=self.batch.directed
        )

    async def _cancel(self, why: Interruption) -> None:
        if why is Interruption.LOST:
            _log.warning("batch.lost", reply_id=self.batch.reply_id)
            return
        text = self.builder.own_text(self._shown.text)
        if why is Interruption.STOPPED and text:
            record = self._record(None, None)
            await self._deliver(Reply(self.batch.reply_id, text, record, stopped=True))
            return
        await self._delivery.withdraw()
        kept = BatchState.ANSWERED if self.batch.replaces else BatchState.IGNORED
        await self._settle(BatchResult(kept))

    async def _fail(self, record: ReplyRecord) -> None:
        """Every provider failed: send the offline message where allowed, and schedule a retry."""
        now = self._dependencies.now()
        reason = record.offline_reason or OfflineReason.ALL_DOWN
        retry_at = self._next_try_at(reason, record.retry_at, now)
        text = self._notice(reason, record.retry_at, now)
        notice = OfflineNotice(self.batch.reply_id, text, reason, record, retry_at)
        ids = await self._delivery.offline(notice)
        if self.batch.replaces:
            await self._settle(BatchResult(BatchState.ANSWERED, record=record))
        elif retry_at is None:
            await self._settle(BatchResult(BatchState.FAILED, record=record))
        else:
            offline_ids = ids or self.batch.offline_message_ids
            await self._postpone(Postponement(retry_at, offline_ids, record))

    def _next_try_at(
        self, reason: OfflineReason, recovery_at: float | None, now: float
    ) -> float | None:
        trigger = self.builder.trigger
        if self.batch.replaces or trigger.author.is_bot:
            return None
        limit_s = self._dependencies.settings().conversation.late_answer_minutes * 60
        return next_try_at(reason, recovery_at, now - self._waited_s() + limit_s, now)

    def _notice(self, reason: OfflineReason, recovery_at: float | None, now: float) -> str:
        settings = self._dependencies.settings().offline
        if not settings.enabled or is_late(self.batch) or self.builder.trigger.author.is_bot:
            return ""
        private = self.builder.place.platform in ("web", "terminal")
        if not private and not self._activity.may_send_offline(self.channel, now):
            return ""
        self._activity.record_offline(self.channel, now)
        return offline_text(settings, reason, None if recovery_at is None else recovery_at - now)

    async def _retry_later(self) -> None:
        """After an internal or platform error: retry soon, a limited number of times."""
        if self.batch.attempt >= _MOST_TRIES:
            await self._settle(BatchResult(BatchState.FAILED))
            return
        await self._postpone(
            Postponement(self._dependencies.now() + _RETRY_S, self.batch.offline_message_ids)
        )

    async def _settle(self, ending: BatchResult) -> None:
        held = await self._store(
            lambda: self._dependencies.store.settle(self.batch.id, ending, self._dependencies.now())
        )
        _log.info("batch.ended", reply_id=self.batch.reply_id, state=ending.state, held=held)

    async def _postpone(self, wait: Postponement) -> None:
        await self._store(lambda: self._dependencies.store.postpone(self.batch.id, wait))

    async def _store(self, outcome: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it was stored. Retries for long: a delivered reply must not be generated again
        because the disk is full."""
        try:
            return await retry_storage(outcome, _STORE_LIMIT_S)
        except StorageError:
            # Its lease runs out; the process that reclaims it finds the sent messages by the nonce.
            _log.error("batch.not_stored", reply_id=self.batch.reply_id)
            return False

    def _record(self, reason: OfflineReason | None, retry_at: float | None) -> ReplyRecord:
        """The record of a reply that the model router did not end itself."""
        return ReplyRecord(
            ts=self._dependencies.now(),
            request_id=self.batch.reply_id,
            sink=self.builder.place.platform,
            outcome=ReplyOutcome.CANCELLED if reason is None else ReplyOutcome.OFFLINE,
            attempts=tuple(self._shown.attempts),
            offline_reason=reason,
            retry_at=retry_at,
            origin=self.builder.origin,
        )

    def _waited_s(self) -> float:
        return self._dependencies.now() - self.batch.messages[-1].arrived_at

    def _context(self) -> ReplyContext:
        trigger = self.builder.trigger
        return ReplyContext(
            reply_id=self.batch.reply_id,
            place=self.builder.place,
            trigger_id=trigger.message_id,
            author=trigger.author,
            message_ids=tuple(m.inbound.message_id for m in self.batch.messages),
            nonce=self.batch.nonce,
            attempt=self.batch.attempt,
            offline_message_ids=self.batch.offline_message_ids,
            waited_s=self._waited_s(),
            replaces=self.batch.replaces,
            people=lambda: self.builder.names,
            bot_name=self.builder.persona.name,
            may_send=self._lease.is_held,
        )

    def _lease_ended(self, renewal: "asyncio.Task[None]") -> None:
        if not renewal.cancelled():
            self.interrupt(Interruption.LOST)


def _pending_interruption() -> "asyncio.Future[Interruption]":
    return asyncio.get_running_loop().create_future()
