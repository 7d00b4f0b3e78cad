"""An InboxStore in memory: for `ask`, for tests, and as the reference implementation."""

from collections.abc import Sequence
from dataclasses import replace

from understudy.conversation.inbox import (
    Batch,
    BatchResult,
    BatchState,
    Channel,
    Claim,
    Decision,
    Line,
    MessageState,
    Overview,
    PendingWork,
    Postponement,
    RegenerateClaim,
    StoredMessage,
    Watermark,
    can_reclaim,
)
from understudy.conversation.messages import Inbound, Place
from understudy.routing.records import ReplyRecord
from understudy.storage.in_memory_tables import BatchRow, MemoryTables, MessageRow, ReplyRow

_TITLE_CHARS = 60


class MemoryInbox:
    """Implements `InboxStore` without persistence."""

    def __init__(self, tables: MemoryTables | None = None, owner: str = "here") -> None:
        self._t = tables or MemoryTables()
        self._owner = owner

    async def add(self, inbound: Inbound, decision: Decision, now: float) -> bool:
        key = (inbound.place.platform, inbound.message_id)
        if key in self._t.seqs:
            return False
        seq = self._t.next_seq()
        state = MessageState.PENDING if decision.answer else MessageState.IGNORED
        self._t.seqs[key] = seq
        self._t.messages[seq] = MessageRow(
            StoredMessage(seq, inbound, now, decision.directed), state
        )
        return True

    async def work(self, channel: Channel) -> PendingWork:
        waiting = tuple(row.stored for row in self._t.messages_in(channel) if row.free)
        rows = [b for b in self._t.batches.values() if b.channel == channel and b.live]
        return PendingWork(waiting, tuple(map(self._t.load_batch, rows)))

    async def claim(self, claim: Claim, now: float) -> Batch | None:
        rows = [self._t.messages[seq] for seq in claim.seqs]
        if not rows or not all(row.free for row in rows):
            return None
        batch = Batch(
            id=claim.batch_id,
            reply_id=claim.reply_id,
            nonce=claim.nonce,
            state=BatchState.CLAIMED,
            directed=claim.directed,
            messages=(),
            attempt=1,
            lease_until=claim.lease_until,
            created_at=now,
        )
        channel = rows[0].channel
        for row in rows:
            row.batch_id = claim.batch_id
        self._t.batches[batch.id] = BatchRow(batch, channel, claim.seqs, self._owner)
        return self._t.move(self._t.batches[batch.id], batch)

    async def reclaim(self, batch_id: str, lease_until: float, now: float) -> Batch | None:
        row = self._t.batches.get(batch_id)
        if row is None or not can_reclaim(row.batch, now):
            return None
        row.owner = self._owner
        return self._t.move(
            row,
            replace(
                row.batch,
                state=BatchState.CLAIMED,
                attempt=row.batch.attempt + 1,
                lease_until=lease_until,
            ),
        )

    async def renew(self, batch_id: str, lease_until: float) -> bool:
        row = self._mine(batch_id)
        if row is None:
            return False
        row.batch = replace(row.batch, lease_until=lease_until)
        return True

    async def release(self, batch_id: str) -> None:
        await self.renew(batch_id, 0.0)

    async def postpone(self, batch_id: str, wait: Postponement) -> bool:
        row = self._mine(batch_id)
        if row is None:
            return False
        self._record(row.batch.reply_id, wait.record)
        self._t.move(
            row,
            replace(
                row.batch,
                state=BatchState.WAITING,
                retry_at=wait.retry_at,
                offline_message_ids=wait.offline_message_ids,
            ),
        )
        return True

    async def settle(self, batch_id: str, ending: BatchResult, now: float) -> bool:
        row = self._mine(batch_id)
        if row is None:
            return False
        self._record(row.batch.reply_id, ending.record)
        if ending.sent is not None:
            self._add_reply(row, ending, now)
        self._t.move(row, replace(row.batch, state=ending.state))
        return True

    async def reopen(self, reply_id: str, claim: RegenerateClaim) -> Batch | None:
        reply = self._t.replies.get(reply_id)
        row = self._t.stopped_batch(reply_id)
        if reply is not None and not reply.replaced:
            row = self._t.batches.get(reply.batch_id)
        if row is None or row.live:
            return None
        row.owner = self._owner
        return self._t.move(
            row,
            replace(
                row.batch,
                reply_id=claim.reply_id,
                nonce=claim.nonce,
                state=BatchState.CLAIMED,
                attempt=1,
                lease_until=claim.lease_until,
                retry_at=None,
                offline_message_ids=(),
                replaces=reply.message_ids if reply is not None else (),
                continues=claim.continues,
            ),
        )

    async def unfinished(self, now: float, orphaned_before: float) -> tuple[Channel, ...]:
        found = {b.channel: None for b in self._t.batches.values() if can_reclaim(b.batch, now)}
        for row in self._t.messages.values():
            if row.free and row.stored.arrived_at < orphaned_before:
                found[row.channel] = None
        return tuple(found)

    async def history(self, channel: Channel, until_seq: int, limit: int) -> tuple[Line, ...]:
        start = self._t.reset_at.get(channel, 0)
        lines = [
            line
            for line in self._t.lines(channel)
            if start < line.position <= until_seq
            and not (line.role == "assistant" and line.position == until_seq)
        ]
        return tuple(lines[-limit:]) if limit else ()

    async def edit(self, inbound: Inbound) -> str | None:
        row = self._t.message(inbound.place.platform, inbound.message_id)
        if row is None or row.forgotten:
            return None
        edited = replace(
            row.stored.inbound,
            text=inbound.text,
            images=inbound.images,
            files=inbound.files,
            notes=inbound.notes,
        )
        row.stored = replace(row.stored, inbound=edited)
        return self._t.live_batch(row)

    async def delete(self, platform: str, message_id: str) -> str | None:
        row = self._t.message(platform, message_id)
        if row is None:
            reply_id = await self.reply_at(platform, message_id)
            if reply_id is not None:
                reply = self._t.replies[reply_id]
                for version in self._t.replies.values():
                    if version.batch_id == reply.batch_id:
                        version.blank()
                self._t.unquote(reply.channel, message_id)
            return None
        self._t.blank(row)
        return self._t.live_batch(row)

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]:
        lines = self._t.lines(channel)
        if before_seq is not None:
            lines = [line for line in lines if line.seq < before_seq]
        shown = lines[-limit:] if limit else []
        return tuple(self._t.versions(self._t.with_stopped(line)) for line in shown)

    async def knows(self, channel: Channel) -> bool:
        return any(row.channel == channel for row in self._t.messages.values())

    async def reply_at(self, platform: str, message_id: str) -> str | None:
        for reply_id, reply in self._t.replies.items():
            carries = message_id in reply.message_ids and not reply.replaced
            if reply.channel.platform == platform and carries:
                return reply_id
        return None

    async def channel_of_reply(self, reply_id: str) -> Channel | None:
        reply = self._t.replies.get(reply_id)
        return None if reply is None else self._t.batches[reply.batch_id].channel

    async def parts(self, reply_id: str) -> tuple[str, ...]:
        reply = self._t.replies.get(reply_id)
        return () if reply is None or reply.replaced else reply.message_ids

    async def last_reply(self, channel: Channel) -> str | None:
        shown = [key for key, row in self._t.replies_in(channel).items() if not row.superseded]
        return next(reversed(shown), None)

    async def reply_line(self, reply_id: str) -> Line | None:
        reply = self._t.replies.get(reply_id)
        return reply.line if reply is not None and reply.line.text else None

    async def choose_version(self, channel: Channel, reply_id: str) -> bool:
        chosen = self._t.replies.get(reply_id)
        if chosen is None or chosen.channel != channel or chosen.replaced:
            return False
        if chosen.batch_id not in self._t.batches or self._t.batches[chosen.batch_id].live:
            return False
        for reply in self._t.replies.values():
            if reply.batch_id == chosen.batch_id:
                reply.superseded = reply is not chosen
        return True

    async def add_past(self, place: Place, lines: Sequence[Line], now: float) -> bool:
        channel = Channel.of(place)
        if self._t.messages_in(channel) or self._t.replies_in(channel):
            return False
        asked: MessageRow | None = None
        for line in lines:
            seq = self._t.next_seq()
            if line.role == "user":
                asked = self._t.add_past_message(place, line, seq, now)
            else:
                self._t.add_past_reply(channel, line, seq, asked)
                asked = None
        return True

    async def title(self, channel: Channel) -> str | None:
        return self._t.titles.get(channel)

    async def set_title(self, channel: Channel, title: str, *, replace: bool) -> bool:
        if channel in self._t.titles and not replace:
            return False
        self._t.titles[channel] = title
        return True

    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]:
        found: dict[Channel, Overview] = {}
        for row in self._t.messages.values():
            place = row.stored.inbound.place
            if (place.platform, place.parent_id) != (platform, parent_id) or row.forgotten:
                continue
            channel = row.channel
            title = found[channel].title if channel in found else row.stored.inbound.text
            title = self._t.titles.get(channel) or title[:_TITLE_CHARS]
            found[channel] = Overview(channel, title, row.stored.arrived_at)
        return tuple(sorted(found.values(), key=lambda o: -o.last_at))

    async def watermarks(self, platform: str, since: float) -> tuple[Watermark, ...]:
        newest: dict[Channel, Watermark] = {}
        for row in self._t.messages.values():
            seen = row.stored.inbound
            if seen.place.platform == platform and row.stored.arrived_at >= since:
                newest[Channel.of(seen.place)] = Watermark(seen.place, seen.message_id)
        return tuple(newest.values())

    async def recent_people(self, platform: str, since: float, limit: int) -> tuple[str, ...]:
        found = (row.stored for row in reversed(self._t.messages.values()))
        ids = [
            stored.inbound.author.id
            for stored in found
            if stored.inbound.place.platform == platform
            and stored.arrived_at >= since
            and stored.inbound.addressed is not None
            and not stored.inbound.place.private
            and not stored.inbound.author.is_bot
        ]
        return tuple(dict.fromkeys(ids))[:limit]

    async def reset(self, channel: Channel) -> None:
        self._t.reset_at[channel] = self._t.counter
        self._t.effects.forget(channel.platform, channel.id)

    async def forget_author(self, platform: str, author_id: str) -> int:
        rows = [
            row
            for row in self._t.messages.values()
            if row.stored.inbound.place.platform == platform
            and row.stored.inbound.author.id == author_id
            and not row.forgotten
        ]
        self._t.forget(rows)
        return len(rows)

    async def delete_channel(self, channel: Channel) -> None:
        self._t.forget(self._t.messages_in(channel))

    async def prune(self, before: float) -> int:
        open_states = (MessageState.PENDING, MessageState.CLAIMED)
        old = [
            seq
            for seq, row in self._t.messages.items()
            if row.stored.arrived_at < before and row.state not in open_states
        ]
        for seq in old:
            inbound = self._t.messages.pop(seq).stored.inbound
            del self._t.seqs[inbound.place.platform, inbound.message_id]
        reply_id = [key for key, reply in self._t.replies.items() if reply.line.at < before]
        for key in reply_id:
            del self._t.replies[key]
        return len(old)

    def _mine(self, batch_id: str) -> BatchRow | None:
        row = self._t.batches.get(batch_id)
        if row is None or row.owner != self._owner or row.batch.state is not BatchState.CLAIMED:
            return None
        return row

    def _record(self, reply_id: str, record: ReplyRecord | None) -> None:
        if record is not None:
            self._t.records.setdefault(reply_id, []).append(record)

    def _add_reply(self, row: BatchRow, ending: BatchResult, now: float) -> None:
        assert ending.sent is not None
        for other in self._t.replies.values():
            if other.batch_id == row.batch.id:
                other.superseded = True
                other.replaced = other.replaced or not ending.sent.keeps_versions
        line = Line(
            seq=self._t.next_seq(),
            position=max(row.seqs),
            role="assistant",
            message_id=next(iter(ending.sent.message_ids), ""),
            author=ending.sent.author,
            # A message that was erased while it was being answered gets no stored reply.
            text=ending.sent.text if self._t.load_batch(row).messages else "",
            at=now,
            reply_id=row.batch.reply_id,
            record=ending.record,
            thoughts=ending.sent.thoughts,
        )
        reply = ReplyRow(line, row.channel, row.batch.id, ending.sent.message_ids)
        self._t.replies[row.batch.reply_id] = reply
