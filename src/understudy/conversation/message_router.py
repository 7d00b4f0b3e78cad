"""MessageRouter: from incoming messages to replies.

Connects inbox, participation, batching, prompt, ModelRouter and delivery; each decides in its own
module.
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
from understudy.conversation.surroundings import ContextSource
from understudy.errors import StorageError

_log = structlog.get_logger()
_SWEEP_S = 10.0
_ORPHAN_S = 20.0
"""A message unclaimed for this long belongs to a process that has ended."""
_PRUNE_EVERY_S = 3600.0
_PRIVATE = ("web", "terminal")
"""Platforms with one person per channel, where every message is complete."""


class MessageRouter:
    """Receives messages from platforms; replies go out through the platforms' deliveries."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._activity = ActivityTracker()
        self._platforms: dict[str, OpenDelivery] = {}
        self._schedulers: dict[Channel, ChannelScheduler] = {}
        self._replies: dict[str, ReplyTask] = {}
        self._tasks: dict[asyncio.Task[None], str] = {}
        """Running replies, with their platforms."""
        self._sweeping: asyncio.Task[None] | None = None
        self._pruned_at = 0.0
        self._closing = False

    @property
    def store(self) -> InboxStore:
        """For pages and commands that read, reset or delete."""
        return self._dependencies.store

    @property
    def preferences(self) -> Preferences:
        return self._dependencies.preferences

    def register(
        self, platform: str, open_delivery: OpenDelivery, context: ContextSource | None = None
    ) -> None:
        """Enable replies on this platform; the next sweep resumes what a crash left there."""
        self._platforms[platform] = open_delivery
        if context is not None:
            self._dependencies.context_sources[platform] = context

    async def unregister(self, platform: str) -> None:
        """Leave this platform to another process: cancel its replies and release their leases."""
        self._platforms.pop(platform, None)
        self._dependencies.context_sources.pop(platform, None)
        for channel in [one for one in self._schedulers if one.platform == platform]:
            await self._schedulers.pop(channel).aclose()
        running = {task for task, its_platform in self._tasks.items() if its_platform == platform}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def start(self) -> None:
        """Resume what a crash left, and sweep the inbox periodically."""
        await self._dependencies.preferences.refresh()
        # At start every unclaimed message is an orphan: no other process need exist to claim it.
        await self._sweep(orphan_s=0.0)
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep_periodically())

    async def receive(self, inbound: Inbound) -> Decision | None:
        """Store a message and schedule its reply; None when it is known already. Once this returns,
        the message gets its reply even if the process is killed. A rate-limited message of the
        web page or the terminal is not stored: its author can send it again. Raises StorageError.
        """
        now = self._dependencies.now()
        status = self._dependencies.preferences.now.author_status(inbound)
        settings = self._dependencies.settings().participation
        decision = decide(inbound, settings, self._activity, status, now, self._dependencies.chance)
        if decision.answer and inbound.address and not inbound.unlimited:
            decision = await self._reserve(inbound, decision, settings.user_per_minute)
        if decision.retry_at is not None and inbound.place.platform in _PRIVATE:
            _log_decision(inbound, decision)
            return decision
        stored = _unread(inbound) if status.opted_out else inbound
        new = await self._dependencies.store.add(stored, decision, now)
        _log_decision(inbound, decision if new else Decision(answer=False, reason="duplicate"))
        if not new:
            return None
        self._activity.record_message(inbound, decision, now)
        if inbound.address:
            network = "" if inbound.unlimited else inbound.address
            self._dependencies.note_network(_user(inbound), network)
        if decision.answer:
            self._wake(Channel.of(inbound.place))
        return decision

    async def _reserve(self, inbound: Inbound, decision: Decision, most: int) -> Decision:
        """The decision, or a refusal where the messages of other processes fill the minute."""
        full_until = await self._dependencies.reserve_message(_user(inbound), inbound.address, most)
        if full_until is None:
            return decision
        return Decision(answer=False, reason="user_rate_limit", retry_at=full_until)

    def would_answer(self, inbound: Inbound) -> bool:
        """Whether `receive` would answer this message now, chance left aside."""
        status = self._dependencies.preferences.now.author_status(inbound)
        settings = self._dependencies.settings().participation
        now = self._dependencies.now()
        return decide(inbound, settings, self._activity, status, now, lambda: 1.0).answer

    async def remember(self, inbound: Inbound) -> bool:
        """Store an older message for the history, without a reply; whether it was new."""
        status = self._dependencies.preferences.now.author_status(inbound)
        stored = _unread(inbound) if status.opted_out else inbound
        decision = Decision(answer=False, reason="read_back")
        return await self._dependencies.store.add(stored, decision, self._dependencies.now())

    def typing(self, place: Place, author_id: str) -> None:
        """Extend the burst of an author who is typing."""
        channel = Channel.of(place)
        if channel in self._schedulers:
            self._schedulers[channel].typing(author_id, self._dependencies.now())

    async def edited(self, inbound: Inbound) -> None:
        """Store an edit. Restarts the message's reply unless some of it is visible."""
        status = self._dependencies.preferences.now.author_status(inbound)
        stored = _unread(inbound) if status.opted_out else inbound
        batch_id = await self._dependencies.store.edit(stored)
        answer = self._reply_to(batch_id)
        if answer is not None:
            answer.restart()

    async def deleted(self, platform: str, message_id: str) -> None:
        """Delete a message's text and cancel a reply to it. A reply to several messages restarts
        without it unless some of it is visible."""
        batch_id = await self._dependencies.store.delete(platform, message_id)
        answer = self._reply_to(batch_id)
        if answer is None:
            return
        if answer.builder.trigger.message_id == message_id:
            answer.interrupt(Interruption.DELETED)
        else:
            answer.restart()

    def stop(self, reply_id: str) -> bool:
        """Stop a running reply and deliver its text so far; False when it does not run here."""
        if reply_id not in self._replies:
            return False
        self._replies[reply_id].interrupt(Interruption.STOPPED)
        return True

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the replies that this process writes."""
        return tuple(self._replies)

    async def stop_anywhere(self, channel: Channel, reply_id: str) -> bool:
        """Stop a reply of this channel, also where another process writes it: that one stops it
        soon. False when it does not run, or cannot be reached. Raises StorageError."""
        if reply_id in self._replies:
            return self._replies[reply_id].channel == channel and self.stop(reply_id)
        if reply_id not in await self._written_elsewhere(channel):
            return False
        return await self.stop_elsewhere(reply_id)

    async def stop_elsewhere(self, reply_id: str) -> bool:
        """Ask other processes to stop a reply; False where there are none. Raises StorageError."""
        return await self._dependencies.stop_elsewhere(reply_id)

    async def stop_others(self, channel: Channel) -> None:
        """Stop the replies in this channel that other processes write. Raises StorageError."""
        for reply_id in await self._written_elsewhere(channel):
            await self.stop_elsewhere(reply_id)

    async def _written_elsewhere(self, channel: Channel) -> tuple[str, ...]:
        now, work = self._dependencies.now(), await self._dependencies.store.work(channel)
        return tuple(
            batch.reply_id
            for batch in work.batches
            if batch.reply_id not in self._replies
            and batch.state is BatchState.CLAIMED
            and batch.lease_until > now
        )

    async def runs_elsewhere(self, channel: Channel, reply_id: str) -> bool:
        """Whether another process writes that reply now."""
        return reply_id in await self._written_elsewhere(channel)

    async def regenerate(self, reply_id: str, *, continues: bool = False) -> str | None:
        """Replace a reply by a new one to the same messages; returns the new reply's id, or None
        when there is no such reply. One that `continues` begins with the text of the earlier
        reply, which broke off."""
        claim = RegenerateClaim(
            self._dependencies.new_id(),
            self._dependencies.new_id(),
            self._dependencies.now() + LEASE_S,
            continues,
        )
        batch = await self._dependencies.store.reopen(reply_id, claim)
        if batch is None:
            return None
        self._start(batch)
        return batch.reply_id

    async def forget(self, platform: str, author_id: str) -> int:
        """Delete a person's messages and cancel running replies to them; returns the number of
        messages."""
        number = await self._dependencies.store.forget_author(platform, author_id)
        for answer in self._replies.values():
            if answer.channel.platform != platform:
                continue
            if answer.builder.trigger.author.id == author_id:
                answer.interrupt(Interruption.DELETED)
            elif author_id in answer.builder.author_ids:
                answer.restart()
        return number

    async def delete_conversation(self, channel: Channel) -> None:
        """Delete a conversation and cancel its running replies."""
        for answer in self._replies.values():
            if answer.channel == channel:
                answer.interrupt(Interruption.DELETED)
        await self.stop_others(channel)
        await self._dependencies.store.delete_channel(channel)

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Let running replies end within `grace_s`, then release their leases, so that the next
        process can claim them at once."""
        self._closing = True
        closing = [self._sweeping] if self._sweeping is not None else []
        for task in closing:
            task.cancel()
        for scheduler in self._schedulers.values():
            await scheduler.aclose()
        if self._tasks and grace_s:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        if pending := {*closing, *self._tasks}:
            await asyncio.wait(pending)

    def _wake(self, channel: Channel) -> None:
        if self._closing or channel.platform not in self._platforms:
            return
        if channel not in self._schedulers:
            self._schedulers[channel] = ChannelScheduler(
                channel,
                lambda: _rules(channel, self._dependencies.settings()),
                self._dependencies,
                self._start,
                lambda batch_id: self._reply_to(batch_id) is not None,
            )
        self._schedulers[channel].wake()

    def _start(self, batch: Batch) -> None:
        task = asyncio.create_task(self._run_guarded(batch))
        place = batch.messages[-1].inbound.place if batch.messages else None
        self._tasks[task] = "" if place is None else place.platform
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _run_guarded(self, batch: Batch) -> None:
        try:
            await self._run(batch)
        except Exception as error:  # noqa: BLE001 - the root of this task
            # ReplyTask retries temporary failures; an error before it starts would repeat for ever.
            _log.exception("batch.crashed", reply_id=batch.reply_id, error=type(error).__name__)
            with suppress(StorageError):
                failed = BatchResult(BatchState.FAILED)
                await self._dependencies.store.settle(batch.id, failed, self._dependencies.now())

    async def _run(self, batch: Batch) -> None:
        if not batch.messages:
            await self._dependencies.store.settle(
                batch.id, BatchResult(BatchState.IGNORED), self._dependencies.now()
            )
            return
        place = batch.messages[-1].inbound.place
        channel = Channel.of(place)
        open_delivery = self._platforms.get(place.platform)
        if open_delivery is None:
            # Claimed just as another process took the platform over.
            await self._dependencies.store.release(batch.id)
            return
        for message in batch.messages:
            self._activity.record_claim(channel, message.inbound.author.id)
        answer = ReplyTask(batch, open_delivery, self._dependencies, self._activity)
        self._replies[batch.reply_id] = answer
        self._dependencies.memory.reply_started()
        try:
            await answer.run()
        finally:
            del self._replies[batch.reply_id]
            self._dependencies.memory.reply_ended(answer.builder.kept)
        self._wake(channel)

    def _reply_to(self, batch_id: str | None) -> ReplyTask | None:
        return next((a for a in self._replies.values() if a.batch.id == batch_id), None)

    async def _sweep_periodically(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self._dependencies.preferences.refresh()
                await self._sweep()
            except StorageError as error:
                _log.warning("inbox.sweep_failed", error=str(error))

    async def _sweep(self, orphan_s: float = _ORPHAN_S) -> None:
        """Resume what an ended process left, and delete what is old."""
        now = self._dependencies.now()
        for channel in await self._dependencies.store.unfinished(now, now - orphan_s):
            self._wake(channel)
        self._schedulers = {c: t for c, t in self._schedulers.items() if not t.idle}
        self._activity.forget_idle(now)
        if now - self._pruned_at >= _PRUNE_EVERY_S and self._dependencies.does_upkeep():
            self._pruned_at = now
            days = self._dependencies.settings().conversation.history_days
            await self._dependencies.store.prune(now - days * DAY_S)


def _rules(channel: Channel, settings: Settings) -> BatchRules:
    if channel.platform in _PRIVATE:
        return BatchRules.at_once(settings.conversation)
    return BatchRules.of(settings.conversation)


def _unread(inbound: Inbound) -> Inbound:
    """The message without content: its author has opted out."""
    author = Author(inbound.author.id, "", is_bot=inbound.author.is_bot)
    return replace(inbound, text="", images=(), notes=(), author=author)


def _user(inbound: Inbound) -> str:
    return f"{inbound.place.platform}:{inbound.author.id}"


def _log_decision(inbound: Inbound, decision: Decision) -> None:
    _log.info(
        "message.decided",
        platform=inbound.place.platform,
        channel=inbound.place.channel_id,
        message_id=inbound.message_id,
        answer=decision.answer,
        reason=decision.reason,
    )
