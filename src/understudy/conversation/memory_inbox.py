"""An inbox in memory: for tests, for trying things out, and the measure of every other one."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from understudy.conversation.delivery import Inbound
from understudy.conversation.inbox import (
    MESSAGE_STATE,
    Batch,
    BatchState,
    Channel,
    Claim,
    Decision,
    Ending,
    Line,
    MessageState,
    Overview,
    Reclaim,
    Stored,
    Wait,
    Watermark,
    Work,
    can_retake,
)
from understudy.conversation.lore.effects import MemoryEffects
from understudy.routing.attempts import ReplyRecord

_TITLE_CHARS = 60


@dataclass(slots=True)
class _Row:
    stored: Stored
    state: MessageState
    batch_id: str | None = None
    forgotten: bool = False


@dataclass(slots=True)
class _BatchRow:
    batch: Batch
    channel: Channel
    seqs: tuple[int, ...]
    owner: str


@dataclass(slots=True)
class _ReplyRow:
    line: Line
    batch_id: str
    message_ids: tuple[str, ...]
    replaced: bool = False
    records: list[ReplyRecord] = field(default_factory=list)


@dataclass(slots=True)
class MemoryTables:
    """What several stores share, as processes share a database."""

    rows: dict[int, _Row] = field(default_factory=dict)
    seqs: dict[tuple[str, str], int] = field(default_factory=dict)
    batches: dict[str, _BatchRow] = field(default_factory=dict)
    replies: dict[str, _ReplyRow] = field(default_factory=dict)
    records: dict[str, list[ReplyRecord]] = field(default_factory=dict)
    reset_at: dict[Channel, int] = field(default_factory=dict)
    effects: MemoryEffects = field(default_factory=MemoryEffects)
    counter: int = 0

    def next_seq(self) -> int:
        self.counter += 1
        return self.counter


class MemoryInbox:
    """Loses everything with the process; otherwise keeps every promise of `InboxStore`."""

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
        self._t.rows[seq] = _Row(Stored(seq, inbound, now, decision.directed), state)
        return True

    async def work(self, channel: Channel) -> Work:
        waiting = tuple(row.stored for row in self._in(channel) if _is_free(row))
        live = (BatchState.CLAIMED, BatchState.WAITING)
        rows = [b for b in self._t.batches.values() if b.channel == channel]
        return Work(waiting, tuple(self._whole(b) for b in rows if b.batch.state in live))

    async def claim(self, claim: Claim, now: float) -> Batch | None:
        rows = [self._t.rows[seq] for seq in claim.seqs]
        if not rows or not all(_is_free(row) for row in rows):
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
        channel = Channel.of(rows[0].stored.inbound.place)
        for row in rows:
            row.batch_id = claim.batch_id
        self._t.batches[batch.id] = _BatchRow(batch, channel, claim.seqs, self._owner)
        return self._move(self._t.batches[batch.id], batch)

    async def retake(self, batch_id: str, lease_until: float, now: float) -> Batch | None:
        row = self._t.batches.get(batch_id)
        if row is None or not can_retake(row.batch, now):
            return None
        row.owner = self._owner
        return self._move(
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

    async def postpone(self, batch_id: str, wait: Wait) -> bool:
        row = self._mine(batch_id)
        if row is None:
            return False
        self._keep(row.batch.reply_id, wait.record)
        self._move(
            row,
            replace(
                row.batch,
                state=BatchState.WAITING,
                retry_at=wait.retry_at,
                offline_message_ids=wait.offline_message_ids,
            ),
        )
        return True

    async def settle(self, batch_id: str, ending: Ending, now: float) -> bool:
        row = self._mine(batch_id)
        if row is None:
            return False
        self._keep(row.batch.reply_id, ending.record)
        if ending.sent is not None:
            self._add_reply(row, ending, now)
        self._move(row, replace(row.batch, state=ending.state))
        return True

    async def reopen(self, reply_id: str, claim: Reclaim) -> Batch | None:
        reply = self._t.replies.get(reply_id)
        if reply is None or reply.replaced:
            return None
        row = self._t.batches[reply.batch_id]
        if row.batch.state in (BatchState.CLAIMED, BatchState.WAITING):
            return None
        row.owner = self._owner
        return self._move(
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
                replaces=reply.message_ids,
            ),
        )

    async def unfinished(self, now: float, orphaned_before: float) -> tuple[Channel, ...]:
        found = {b.channel: None for b in self._t.batches.values() if can_retake(b.batch, now)}
        for row in self._t.rows.values():
            if _is_free(row) and row.stored.arrived_at < orphaned_before:
                found[Channel.of(row.stored.inbound.place)] = None
        return tuple(found)

    async def history(self, channel: Channel, until_seq: int, limit: int) -> tuple[Line, ...]:
        start = self._t.reset_at.get(channel, 0)
        lines = [
            line
            for line in self._lines(channel)
            if start < line.position <= until_seq
            and not (line.role == "assistant" and line.position == until_seq)
        ]
        return tuple(lines[-limit:]) if limit else ()

    async def edit(self, inbound: Inbound) -> str | None:
        row = self._row(inbound.place.platform, inbound.message_id)
        if row is None or row.forgotten:
            return None
        row.stored = replace(
            row.stored, inbound=replace(row.stored.inbound, text=inbound.text, notes=inbound.notes)
        )
        return self._live_batch(row)

    async def delete(self, platform: str, message_id: str) -> str | None:
        row = self._row(platform, message_id)
        if row is None:
            return None
        _blank(row)
        if _is_free(row):
            row.state = MessageState.IGNORED
        return self._live_batch(row)

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]:
        lines = self._lines(channel)
        if before_seq is not None:
            lines = [line for line in lines if line.seq < before_seq]
        return tuple(lines[-limit:]) if limit else ()

    async def reply_at(self, platform: str, message_id: str) -> str | None:
        for reply_id, reply in self._t.replies.items():
            channel = self._t.batches[reply.batch_id].channel
            if channel.platform == platform and message_id in reply.message_ids:
                return reply_id
        return None

    async def last_reply(self, channel: Channel) -> str | None:
        ids = [
            reply_id
            for reply_id, reply in self._t.replies.items()
            if self._t.batches[reply.batch_id].channel == channel
        ]
        return ids[-1] if ids else None

    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]:
        found: dict[Channel, Overview] = {}
        for row in self._t.rows.values():
            place = row.stored.inbound.place
            if (place.platform, place.parent_id) != (platform, parent_id) or row.forgotten:
                continue
            channel = Channel.of(place)
            title = found[channel].title if channel in found else row.stored.inbound.text
            found[channel] = Overview(channel, title[:_TITLE_CHARS], row.stored.arrived_at)
        return tuple(sorted(found.values(), key=lambda o: -o.last_at))

    async def watermarks(self, platform: str, since: float) -> tuple[Watermark, ...]:
        newest: dict[Channel, Watermark] = {}
        for row in self._t.rows.values():
            seen = row.stored.inbound
            if seen.place.platform == platform and row.stored.arrived_at >= since:
                newest[Channel.of(seen.place)] = Watermark(seen.place, seen.message_id)
        return tuple(newest.values())

    async def reset(self, channel: Channel) -> None:
        self._t.reset_at[channel] = self._t.counter
        self._t.effects.forget(channel.platform, channel.id)

    async def forget_author(self, platform: str, author_id: str) -> int:
        rows = [
            row
            for row in self._t.rows.values()
            if row.stored.inbound.place.platform == platform
            and row.stored.inbound.author.id == author_id
            and not row.forgotten
        ]
        self._forget(rows)
        return len(rows)

    async def delete_channel(self, channel: Channel) -> None:
        self._forget(self._in(channel))

    async def prune(self, before: float) -> int:
        open_states = (MessageState.PENDING, MessageState.CLAIMED)
        old = [
            seq
            for seq, row in self._t.rows.items()
            if row.stored.arrived_at < before and row.state not in open_states
        ]
        for seq in old:
            inbound = self._t.rows.pop(seq).stored.inbound
            del self._t.seqs[inbound.place.platform, inbound.message_id]
        gone = [key for key, reply in self._t.replies.items() if reply.line.at < before]
        for key in gone:
            del self._t.replies[key]
        return len(old)

    def _in(self, channel: Channel) -> list[_Row]:
        return [r for r in self._t.rows.values() if Channel.of(r.stored.inbound.place) == channel]

    def _row(self, platform: str, message_id: str) -> _Row | None:
        seq = self._t.seqs.get((platform, message_id))
        return None if seq is None else self._t.rows[seq]

    def _mine(self, batch_id: str) -> _BatchRow | None:
        row = self._t.batches.get(batch_id)
        if row is None or row.owner != self._owner or row.batch.state is not BatchState.CLAIMED:
            return None
        return row

    def _whole(self, row: _BatchRow) -> Batch:
        rows = [self._t.rows[seq] for seq in row.seqs if seq in self._t.rows]
        return replace(row.batch, messages=tuple(r.stored for r in rows if not r.forgotten))

    def _move(self, row: _BatchRow, batch: Batch) -> Batch:
        row.batch = batch
        for seq in row.seqs:
            if seq in self._t.rows:
                self._t.rows[seq].state = MESSAGE_STATE[batch.state]
        return self._whole(row)

    def _live_batch(self, row: _Row) -> str | None:
        if row.batch_id is None or row.batch_id not in self._t.batches:
            return None
        live = self._t.batches[row.batch_id].batch.state in (BatchState.CLAIMED, BatchState.WAITING)
        return row.batch_id if live else None

    def _keep(self, reply_id: str, record: ReplyRecord | None) -> None:
        if record is not None:
            self._t.records.setdefault(reply_id, []).append(record)

    def _add_reply(self, row: _BatchRow, ending: Ending, now: float) -> None:
        assert ending.sent is not None
        for other in self._t.replies.values():
            other.replaced = other.replaced or other.batch_id == row.batch.id
        line = Line(
            seq=self._t.next_seq(),
            position=max(row.seqs),
            role="assistant",
            message_id=next(iter(ending.sent.message_ids), ""),
            author=ending.sent.author,
            # What was forgotten while it was being answered leaves no reply behind either.
            text=ending.sent.text if self._whole(row).messages else "",
            at=now,
            reply_id=row.batch.reply_id,
            record=ending.record,
        )
        reply = _ReplyRow(line, row.batch.id, ending.sent.message_ids)
        self._t.replies[row.batch.reply_id] = reply

    def _lines(self, channel: Channel) -> list[Line]:
        said = [_line(row) for row in self._in(channel)]
        replied = [
            reply.line
            for reply in self._t.replies.values()
            if self._t.batches[reply.batch_id].channel == channel and not reply.replaced
        ]
        lines = (line for line in said + replied if line.text or line.images)
        return sorted(lines, key=lambda line: (line.position, line.seq))

    def _forget(self, rows: Iterable[_Row]) -> None:
        batch_ids = set()
        for row in rows:
            _blank(row)
            batch_ids.add(row.batch_id)
            if _is_free(row):
                row.state = MessageState.IGNORED
        for reply in self._t.replies.values():
            if reply.batch_id in batch_ids:
                reply.line = replace(reply.line, text="")


def _is_free(row: _Row) -> bool:
    return row.state is MessageState.PENDING and row.batch_id is None


def _blank(row: _Row) -> None:
    inbound = row.stored.inbound
    author = replace(inbound.author, name="")
    row.stored = replace(
        row.stored, inbound=replace(inbound, text="", images=(), notes=(), author=author)
    )
    row.forgotten = True


def _line(row: _Row) -> Line:
    inbound = row.stored.inbound
    return Line(
        seq=row.stored.seq,
        position=row.stored.seq,
        role="user",
        message_id=inbound.message_id,
        author=inbound.author,
        text=inbound.text,
        at=inbound.sent_at,
        images=inbound.images,
        state=row.state,
    )
