"""MessageRouter: turns incoming messages into replies.

Inbox, participation, batching, prompt, ModelRouter, delivery: each decides in a module of its
own, and this one only connects them.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace

import structlog

from understudy.clock import DAY_S
from understudy.config.settings import Settings
from understudy.conversation.activity import ActivityTracker
from understudy.conversation.batching import BatchRules
from understudy.conversation.channel_scheduler import ChannelScheduler
from understudy.conversation.delivery import OpenDelivery
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.inbox import (
    LEASE_S,
    Batch,
    BatchResult,
    BatchState,
    Channel,
    Decision,
    InboxStore,
    RegenerateClaim,
)
from understudy.conversation.messages import Author, Inbound, Place
from understudy.conversation.participation import decide
from understudy.conversation.preferences import Preferences
from understudy.conversation.reply_task import Interruption, ReplyTask
from understudy.errors import StorageError

_log = structlog.get_logger()
_SWEEP_S = 10.0
_ORPHAN_S = 20.0
"""A message that has waited this long unclaimed belongs to a process that is gone."""
_PRUNE_EVERY_S = 3600.0
_DIRECT = ("web", "terminal")
"""Platforms where each message is sent on purpose, and nothing more is waited for."""


class MessageRouter:
    """Platforms hand in what happened; replies come back through their deliveries."""

    def __init__(self, surroundings: Dependencies) -> None:
        self._out = surroundings
        self._mood = ActivityTracker()
        self._platforms: dict[str, OpenDelivery] = {}
        self._turns: dict[Channel, ChannelScheduler] = {}
        self._answers: dict[str, ReplyTask] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._pruned_at = 0.0
        self._closing = False

    @property
    def store(self) -> InboxStore:
        """For pages and commands that only read, reset or forget."""
        return self._out.store

    @property
    def preferences(self) -> Preferences:
        return self._out.preferences

    def register(self, platform: str, open_delivery: OpenDelivery) -> None:
        """From now on replies for this platform can be shown; what a crash left there is resumed
        by the next sweep, and by `start`."""
        self._platforms[platform] = open_delivery

    async def start(self) -> None:
        """Resume what a crash left, and look after the inbox from now on."""
        await self._out.preferences.refresh()
        # What waits unclaimed now is an orphan already: nobody else need be there to take it up.
        await self._sweep(orphan_s=0.0)
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._keep_sweeping())

    async def receive(self, inbound: Inbound) -> Decision | None:
        """Take in a message; None when it is known already. Once this returns, the message is
        stored, and it gets its reply even if the process dies now. Raises StorageError."""
        now = self._out.now()
        standing = self._out.preferences.now.standing(inbound)
        settings = self._out.settings().participation
        decision = decide(inbound, settings, self._mood, standing, now, self._out.chance)
        kept = _unread(inbound) if standing.opted_out else inbound
        new = await self._out.store.add(kept, decision, now)
        _log.info(
            "message.decided",
            platform=inbound.place.platform,
            channel=inbound.place.channel_id,
            message_id=inbound.message_id,
            answer=decision.answer and new,
            reason=decision.reason if new else "duplicate",
        )
        if not new:
            return None
        self._mood.took(inbound, decision, now)
        if decision.answer:
            self._poke(Channel.of(inbound.place))
        return decision

    def typing(self, place: Place, author_id: str) -> None:
        """Somebody is typing: their burst may go on."""
        channel = Channel.of(place)
        if channel in self._turns:
            self._turns[channel].typing(author_id, self._out.now())

    async def edited(self, inbound: Inbound) -> None:
        """A known message says something else now. Restarts its reply if nothing of it is shown."""
        standing = self._out.preferences.now.standing(inbound)
        kept = _unread(inbound) if standing.opted_out else inbound
        batch_id = await self._out.store.edit(kept)
        answer = self._answer_to(batch_id)
        if answer is not None:
            answer.begin_anew()

    async def deleted(self, platform: str, message_id: str) -> None:
        """A message is gone: its text is forgotten, and a reply to it is given up. A reply to
        several begins anew without it if nothing is shown."""
        batch_id = await self._out.store.delete(platform, message_id)
        answer = self._answer_to(batch_id)
        if answer is None:
            return
        if answer.question.trigger.message_id == message_id:
            answer.interrupt(Interruption.DELETED)
        else:
            answer.begin_anew()

    def stop(self, reply_id: str) -> bool:
        """Break off a running reply and keep what it has said; False when it does not run."""
        if reply_id not in self._answers:
            return False
        self._answers[reply_id].interrupt(Interruption.STOPPED)
        return True

    async def regenerate(self, reply_id: str) -> str | None:
        """Answer the same messages once more, in place of that reply; the new reply's id, or None
        when there is nothing to replace."""
        claim = RegenerateClaim(self._out.new_id(), self._out.new_id(), self._out.now() + LEASE_S)
        batch = await self._out.store.reopen(reply_id, claim)
        if batch is None:
            return None
        self._start(batch)
        return batch.reply_id

    async def forget(self, platform: str, author_id: str) -> int:
        """Forget a person, and take back what is being said to them; the number of messages."""
        number = await self._out.store.forget_author(platform, author_id)
        for answer in self._answers.values():
            if answer.channel.platform != platform:
                continue
            if answer.question.trigger.author.id == author_id:
                answer.interrupt(Interruption.DELETED)
            elif author_id in answer.question.author_ids:
                answer.begin_anew()
        return number

    async def delete_conversation(self, channel: Channel) -> None:
        """Forget everything that was said there, and take back what is being said."""
        for answer in self._answers.values():
            if answer.channel == channel:
                answer.interrupt(Interruption.DELETED)
        await self._out.store.delete_channel(channel)

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Let running replies end within `grace_s`, then give up their leases, so that the next
        process takes them up at once."""
        self._closing = True
        closing = [self._sweeping] if self._sweeping is not None else []
        for task in closing:
            task.cancel()
        for turns in self._turns.values():
            await turns.aclose()
        if self._tasks and grace_s:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        if pending := {*closing, *self._tasks}:
            await asyncio.wait(pending)

    def _poke(self, channel: Channel) -> None:
        if self._closing or channel.platform not in self._platforms:
            return
        if channel not in self._turns:
            self._turns[channel] = ChannelScheduler(
                channel,
                lambda: _rules(channel, self._out.settings()),
                self._out,
                self._start,
                lambda batch_id: self._answer_to(batch_id) is not None,
            )
        self._turns[channel].poke()

    def _start(self, batch: Batch) -> None:
        task = asyncio.create_task(self._answer(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, batch: Batch) -> None:
        try:
            await self._run(batch)
        except Exception as error:  # noqa: BLE001 - the root of this task
            # An answer puts off what may pass; what it cannot even begin with would come again.
            _log.exception("batch.crashed", reply_id=batch.reply_id, error=type(error).__name__)
            with suppress(StorageError):
                failed = BatchResult(BatchState.FAILED)
                await self._out.store.settle(batch.id, failed, self._out.now())

    async def _run(self, batch: Batch) -> None:
        if not batch.messages:
            await self._out.store.settle(batch.id, BatchResult(BatchState.IGNORED), self._out.now())
            return
        place = batch.messages[-1].inbound.place
        channel = Channel.of(place)
        for message in batch.messages:
            self._mood.claimed(channel, message.inbound.author.id)
        answer = ReplyTask(batch, self._platforms[place.platform], self._out, self._mood)
        self._answers[batch.reply_id] = answer
        try:
            await answer.run()
        finally:
            del self._answers[batch.reply_id]
        self._poke(channel)

    def _answer_to(self, batch_id: str | None) -> ReplyTask | None:
        return next((a for a in self._answers.values() if a.batch.id == batch_id), None)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self._out.preferences.refresh()
                await self._sweep()
            except StorageError as error:
                _log.warning("inbox.sweep_failed", error=str(error))

    async def _sweep(self, orphan_s: float = _ORPHAN_S) -> None:
        """Find what a dead process left behind, and forget what is old."""
        now = self._out.now()
        for channel in await self._out.store.unfinished(now, now - orphan_s):
            self._poke(channel)
        self._turns = {c: t for c, t in self._turns.items() if not t.idle}
        self._mood.forget_idle(now)
        if now - self._pruned_at >= _PRUNE_EVERY_S:
            self._pruned_at = now
            days = self._out.settings().conversation.history_days
            await self._out.store.prune(now - days * DAY_S)


def _rules(channel: Channel, settings: Settings) -> BatchRules:
    if channel.platform in _DIRECT:
        return BatchRules.at_once(settings.conversation)
    return BatchRules.of(settings.conversation)


def _unread(inbound: Inbound) -> Inbound:
    """Only that there was a message: its author wants it unread."""
    author = Author(inbound.author.id, "", is_bot=inbound.author.is_bot)
    return replace(inbound, text="", images=(), notes=(), author=author)
