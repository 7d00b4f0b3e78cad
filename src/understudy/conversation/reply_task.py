"""One batch from its claim to its reply: history, prompt, ModelRouter, delivery, and the ending."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from enum import StrEnum

import structlog

from understudy.conversation.activity import ActivityTracker
from understudy.conversation.delivery import (
    Delivery,
    OfflineNotice,
    OpenDelivery,
    Reply,
    ReplyContext,
)
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.inbox import (
    Batch,
    BatchResult,
    BatchState,
    Channel,
    Postponement,
    Sent,
    is_late,
    is_recovering,
)
from understudy.conversation.lease import Lease
from understudy.conversation.offline_message import next_try_at, offline_text
from understudy.conversation.request_builder import RequestBuilder
from understudy.errors import StorageError, Undeliverable
from understudy.llm.messages import TextDelta
from understudy.retry import retry_storage
from understudy.routing.records import (
    AttemptRecord,
    OfflineReason,
    ReplyOutcome,
    ReplyRecord,
)
from understudy.routing.request import AttemptEnded, ReplyEnded, Restarted

_log = structlog.get_logger()
_LOOK_FIRST_S = 120.0
"""Older than this, a nonce is no longer remembered by Discord, so the channel is looked at."""
_AGAIN_S = 15.0
_MOST_TRIES = 3
_LEAST_LIMIT_S = 300.0
_STORE_LIMIT_S = 600.0
"""How long the outcome of a batch waits for a database that is busy or full."""


class Interruption(StrEnum):
    STOPPED = "stopped"
    """A person wants no more of it."""
    DELETED = "deleted"
    """The message it answers is gone."""
    EDITED = "edited"
    """What it answers says something else now."""
    LOST = "lost"
    """Another process holds the batch."""


class ReplyTask:
    """Makes the reply to one claimed batch, and settles or postpones that batch."""

    def __init__(
        self,
        batch: Batch,
        open_delivery: OpenDelivery,
        surroundings: Dependencies,
        mood: ActivityTracker,
    ) -> None:
        self.batch = batch
        self.question = RequestBuilder.of(batch, surroundings)
        self._out = surroundings
        self._mood = mood
        self._lease = Lease(surroundings.store, batch.id, batch.lease_until, surroundings.now)
        self._delivery = open_delivery(self._task())
        self._interrupted: asyncio.Future[Interruption] | None = _nobody_interrupts()
        self._text = ""
        self._attempts: list[AttemptRecord] = []

    @property
    def channel(self) -> Channel:
        return Channel.of(self.question.place)

    @property
    def shown(self) -> bool:
        return self._delivery.shown()

    def interrupt(self, why: Interruption) -> None:
        """Break off, as long as the model has not said all of it."""
        if self._interrupted is None:
            return
        if self._interrupted.done():
            # Not heeded yet; this one will be at the next try.
            self._interrupted = _nobody_interrupts()
        self._interrupted.set_result(why)

    def begin_anew(self) -> None:
        """What it answers is no longer what it was. Without effect once some of it is shown."""
        if not self.shown:
            self.interrupt(Interruption.EDITED)

    async def run(self) -> None:
        """To the end, whatever happens; raises nothing but CancelledError."""
        keeping = asyncio.create_task(self._lease.keep())
        keeping.add_done_callback(self._lease_ended)
        try:
            await self._answer()
        except asyncio.CancelledError:
            with suppress(StorageError):
                await asyncio.shield(self._out.store.release(self.batch.id))
            raise
        except Undeliverable:
            _log.warning("reply.undeliverable", reply_id=self.batch.reply_id)
            await self._settle(BatchResult(BatchState.FAILED))
        except Exception as error:  # noqa: BLE001 - the root of this task
            _log.exception(
                "reply.crashed", reply_id=self.batch.reply_id, error=type(error).__name__
            )
            await self._put_off()
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            await self._delivery.aclose()

    async def _answer(self) -> None:
        if await self._is_over():
            return
        limited_until = self._out.limited_until(self.question.user)
        if limited_until is not None:
            await self._fail(self._record(OfflineReason.BUDGET, limited_until))
            return
        heard = await self._attend()
        while heard is Interruption.EDITED:
            self._text = ""
            await self.question.reread()
            heard = await self._attend()
        if isinstance(heard, Interruption):
            await self._break_off(heard)
        else:
            await self._conclude(heard)

    async def _is_over(self) -> bool:
        """Whether an earlier try got through after all, or nobody waits for this any more."""
        if self.batch.replaces:
            return False
        limit_s = self._out.settings().conversation.late_answer_minutes * 60
        if self._waited_s() > max(limit_s, _LEAST_LIMIT_S):
            _log.warning("batch.expired", reply_id=self.batch.reply_id, waited_s=self._waited_s())
            await self._settle(BatchResult(BatchState.FAILED))
            return True
        if not is_recovering(self.batch) or self._waited_s() < _LOOK_FIRST_S:
            return False
        ids = await self._delivery.earlier()
        if ids:
            sent = Sent("", ids, self.question.me)
            await self._settle(BatchResult(BatchState.ANSWERED, sent))
        return bool(ids)

    async def _attend(self) -> ReplyEnded | Interruption:
        """Listen to the model until it ends or somebody interrupts."""
        assert self._interrupted is not None
        interrupted = self._interrupted
        listening = asyncio.create_task(self._listen(self._delivery))
        try:
            first: set[asyncio.Future[ReplyEnded] | asyncio.Future[Interruption]]
            first = {listening, interrupted}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            broken_off = interrupted.done()
            if not broken_off:
                self._interrupted = None
            elif self._interrupted is interrupted:
                # Hanging up can take a while, and who interrupts meanwhile means the next try.
                self._interrupted = _nobody_interrupts()
        finally:
            listening.cancel()
            await asyncio.wait({listening})
        return interrupted.result() if broken_off else listening.result()

    async def _listen(self, delivery: Delivery) -> ReplyEnded:
        request = await self.question.ask(delivery.shown)
        async with aclosing(self._out.reply(request)) as events:
            async for event in events:
                match event:
                    case TextDelta(text):
                        self._text += text
                        await delivery.write(self.question.own_words(self._text))
                    case Restarted():
                        self._text = ""
                    case AttemptEnded(record):
                        self._attempts.append(record)
                    case ReplyEnded():
                        return event
        raise RuntimeError("the model router ended a reply without saying how")

    async def _conclude(self, ended: ReplyEnded) -> None:
        text = self.question.own_words(ended.text) or ended.text.strip()
        outcome = ended.record.outcome
        if outcome in (ReplyOutcome.DELIVERED, ReplyOutcome.PARTIAL) and text:
            notes = self.question.notes(ended)
            partial = outcome is ReplyOutcome.PARTIAL
            await self._deliver(
                Reply(self.batch.reply_id, text, ended.record, partial=partial, notes=notes)
            )
        elif outcome is ReplyOutcome.CANCELLED:
            await self._break_off(Interruption.STOPPED)
        else:
            await self._fail(ended.record)

    async def _deliver(self, reply: Reply) -> None:
        if not await self._lease.holds():
            return
        ids = await self._delivery.finish(reply)
        sent = Sent(reply.text, ids, self.question.me)
        # The observers keep the record of a stopped reply: this one lacks the attempt cut off.
        record = None if reply.stopped else reply.record
        await self._settle(BatchResult(BatchState.ANSWERED, sent, record))
        with suppress(StorageError):
            await self.question.answered()
        self._out.saw(self.question.images, self.question.place.platform)
        author_id = self.question.trigger.author.id
        self._mood.replied(self.channel, author_id, self._out.now(), directed=self.batch.directed)

    async def _break_off(self, why: Interruption) -> None:
        if why is Interruption.LOST:
            _log.warning("batch.lost", reply_id=self.batch.reply_id)
            return
        text = self.question.own_words(self._text)
        if why is Interruption.STOPPED and text:
            record = self._record(None, None)
            await self._deliver(Reply(self.batch.reply_id, text, record, stopped=True))
            return
        await self._delivery.withdraw()
        kept = BatchState.ANSWERED if self.batch.replaces else BatchState.IGNORED
        await self._settle(BatchResult(kept))

    async def _fail(self, record: ReplyRecord) -> None:
        """Every provider failed: say so where manners allow, and see when to try again."""
        now = self._out.now()
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
        trigger = self.question.trigger
        if self.batch.replaces or trigger.author.is_bot:
            return None
        limit_s = self._out.settings().conversation.late_answer_minutes * 60
        return next_try_at(reason, recovery_at, now - self._waited_s() + limit_s, now)

    def _notice(self, reason: OfflineReason, recovery_at: float | None, now: float) -> str:
        settings = self._out.settings().offline
        if not settings.enabled or is_late(self.batch) or self.question.trigger.author.is_bot:
            return ""
        alone = self.question.place.platform in ("web", "terminal")
        if not alone and not self._mood.may_say_offline(self.channel, now):
            return ""
        self._mood.said_offline(self.channel, now)
        return offline_text(settings, reason, None if recovery_at is None else recovery_at - now)

    async def _put_off(self) -> None:
        """After trouble of our own or of the platform: once more soon, but not for ever."""
        if self.batch.attempt >= _MOST_TRIES:
            await self._settle(BatchResult(BatchState.FAILED))
            return
        await self._postpone(
            Postponement(self._out.now() + _AGAIN_S, self.batch.offline_message_ids)
        )

    async def _settle(self, ending: BatchResult) -> None:
        held = await self._store(
            lambda: self._out.store.settle(self.batch.id, ending, self._out.now())
        )
        _log.info("batch.ended", reply_id=self.batch.reply_id, state=ending.state, held=held)

    async def _postpone(self, wait: Postponement) -> None:
        await self._store(lambda: self._out.store.postpone(self.batch.id, wait))

    async def _store(self, outcome: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it was stored. What was shown already is not made once more for want of room."""
        try:
            return await retry_storage(outcome, _STORE_LIMIT_S)
        except StorageError:
            # Its lease runs out, and whoever takes it up then finds what was sent by the nonce.
            _log.error("batch.not_stored", reply_id=self.batch.reply_id)
            return False

    def _record(self, reason: OfflineReason | None, retry_at: float | None) -> ReplyRecord:
        """A record of a reply that the model router did not end itself."""
        return ReplyRecord(
            ts=self._out.now(),
            request_id=self.batch.reply_id,
            sink=self.question.place.platform,
            outcome=ReplyOutcome.CANCELLED if reason is None else ReplyOutcome.OFFLINE,
            attempts=tuple(self._attempts),
            offline_reason=reason,
            retry_at=retry_at,
            origin=self.question.origin,
        )

    def _waited_s(self) -> float:
        return self._out.now() - self.batch.messages[-1].arrived_at

    def _task(self) -> ReplyContext:
        trigger = self.question.trigger
        return ReplyContext(
            reply_id=self.batch.reply_id,
            place=self.question.place,
            trigger_id=trigger.message_id,
            author=trigger.author,
            message_ids=tuple(m.inbound.message_id for m in self.batch.messages),
            nonce=self.batch.nonce,
            attempt=self.batch.attempt,
            offline_message_ids=self.batch.offline_message_ids,
            waited_s=self._waited_s(),
            replaces=self.batch.replaces,
            may_send=self._lease.holds,
        )

    def _lease_ended(self, keeping: "asyncio.Task[None]") -> None:
        if not keeping.cancelled():
            self.interrupt(Interruption.LOST)


def _nobody_interrupts() -> "asyncio.Future[Interruption]":
    return asyncio.get_running_loop().create_future()
