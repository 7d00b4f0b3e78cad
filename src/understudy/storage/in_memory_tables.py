"""The tables of the in-memory inbox."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from understudy.conversation.inbox import (
    MESSAGE_STATE,
    Batch,
    BatchState,
    Channel,
    Line,
    MessageState,
    StoredMessage,
)
from understudy.conversation.lore.effects import InMemoryEffects
from understudy.conversation.messages import Addressed, Inbound, Place
from understudy.conversation.speakers import unquoted
from understudy.routing.records import ReplyRecord


@dataclass(slots=True)
class MessageRow:
    stored: StoredMessage
    state: MessageState
    batch_id: str | None = None
    forgotten: bool = False

    @property
    def channel(self) -> Channel:
        return Channel.of(self.stored.inbound.place)

    @property
    def free(self) -> bool:
        return self.state is MessageState.PENDING and self.batch_id is None

    def blank(self) -> None:
        """Erase the text; the message id stays."""
        inbound = self.stored.inbound
        author = replace(inbound.author, name="")
        bare = replace(inbound, text="", images=(), files=(), notes=(), author=author)
        self.stored = replace(self.stored, inbound=bare)
        self.forgotten = True
        if self.free:
            self.state = MessageState.IGNORED

    def unquote(self) -> None:
        """Erase the quotation of the message that it answers."""
        own = replace(self.stored.inbound, text=unquoted(self.stored.inbound.text))
        self.stored = replace(self.stored, inbound=own)

    def line(self) -> Line:
        inbound = self.stored.inbound
        return Line(
            seq=self.stored.seq,
            position=self.stored.seq,
            role="user",
            message_id=inbound.message_id,
            author=inbound.author,
            text=inbound.text,
            at=inbound.sent_at,
            images=inbound.images,
            files=inbound.files,
            state=self.state,
        )


@dataclass(slots=True)
class BatchRow:
    batch: Batch
    channel: Channel
    seqs: tuple[int, ...]
    owner: str

    @property
    def live(self) -> bool:
        return self.batch.state in (BatchState.CLAIMED, BatchState.WAITING)


@dataclass(slots=True)
class ReplyRow:
    line: Line
    channel: Channel
    batch_id: str
    message_ids: tuple[str, ...]
    replaced: bool = False
    superseded: bool = False
    """Another version of the reply is shown."""

    def blank(self) -> None:
        """Erase the text."""
        self.line = replace(self.line, text="", thoughts=None)


@dataclass(slots=True)
class MemoryTables:
    """Rows that several stores share, as processes share a database."""

    messages: dict[int, MessageRow] = field(default_factory=dict)
    """By `seq`."""
    seqs: dict[tuple[str, str], int] = field(default_factory=dict)
    """By platform and message id."""
    batches: dict[str, BatchRow] = field(default_factory=dict)
    replies: dict[str, ReplyRow] = field(default_factory=dict)
    records: dict[str, list[ReplyRecord]] = field(default_factory=dict)
    """By reply id."""
    titles: dict[Channel, str] = field(default_factory=dict)
    reset_at: dict[Channel, int] = field(default_factory=dict)
    effects: InMemoryEffects = field(default_factory=InMemoryEffects)
    counter: int = 0

    def next_seq(self) -> int:
        self.counter += 1
        return self.counter

    def message(self, platform: str, message_id: str) -> MessageRow | None:
        seq = self.seqs.get((platform, message_id))
        return None if seq is None else self.messages[seq]

    def messages_in(self, channel: Channel) -> list[MessageRow]:
        return [row for row in self.messages.values() if row.channel == channel]

    def replies_in(self, channel: Channel) -> dict[str, ReplyRow]:
        """By reply id, in the order of creation."""
        return {
            reply_id: reply for reply_id, reply in self.replies.items() if reply.channel == channel
        }

    def lines(self, channel: Channel) -> list[Line]:
        """A conversation in order, without erased and replaced lines."""
        user_lines = [row.line() for row in self.messages_in(channel)]
        reply_lines = [
            row.line
            for row in self.replies_in(channel).values()
            if not (row.replaced or row.superseded)
        ]
        lines = (
            line for line in user_lines + reply_lines if line.text or line.images or line.files
        )
        return sorted(lines, key=lambda line: (line.position, line.seq))

    def versions(self, line: Line) -> Line:
        """A reply's line with the ids of all its versions, if there are several."""
        shown = self.replies.get(line.reply_id or "")
        if line.role == "user" or shown is None:
            return line
        ids = tuple(
            key
            for key, reply in self.replies.items()
            if reply.batch_id == shown.batch_id and not reply.replaced
        )
        return replace(line, versions=ids) if len(ids) > 1 else line

    def stopped_batch(self, reply_id: str) -> BatchRow | None:
        """The batch of a reply that was stopped before its first text."""
        for row in self.batches.values():
            if row.batch.reply_id == reply_id and row.batch.state is BatchState.IGNORED:
                return row
        return None

    def with_stopped(self, line: Line) -> Line:
        """A person's line with the id of its reply, if that was stopped before its first text."""
        batch_id = self.messages[line.seq].batch_id if line.seq in self.messages else None
        if line.state is not MessageState.IGNORED or batch_id is None:
            return line
        return replace(line, reply_id=self.batches[batch_id].batch.reply_id)

    def load_batch(self, row: BatchRow) -> Batch:
        """The batch with those of its messages that are not erased."""
        members = [self.messages[seq] for seq in row.seqs if seq in self.messages]
        return replace(row.batch, messages=tuple(r.stored for r in members if not r.forgotten))

    def move(self, row: BatchRow, batch: Batch) -> Batch:
        """Replace a batch and set its messages to its state."""
        row.batch = batch
        for seq in row.seqs:
            if seq in self.messages:
                self.messages[seq].state = MESSAGE_STATE[batch.state]
        return self.load_batch(row)

    def live_batch(self, row: MessageRow) -> str | None:
        found = self.batches.get(row.batch_id or "")
        return found.batch.id if found is not None and found.live else None

    def blank(self, row: MessageRow) -> None:
        """Erase a message and the quotations of it."""
        row.blank()
        self.unquote(row.channel, row.stored.inbound.message_id)

    def unquote(self, channel: Channel, message_id: str) -> None:
        """Erase the quotations of a message in its channel."""
        for row in self.messages_in(channel):
            if row.stored.inbound.reply_to == message_id:
                row.unquote()

    def forget(self, rows: Iterable[MessageRow]) -> None:
        """Blank messages and the replies to them."""
        batch_ids = set()
        for row in rows:
            self.blank(row)
            batch_ids.add(row.batch_id)
            self.titles.pop(row.channel, None)
        for reply in self.replies.values():
            if reply.batch_id in batch_ids:
                reply.blank()

    def add_past_message(self, place: Place, line: Line, seq: int, now: float) -> MessageRow:
        """A person's line that was copied or imported."""
        inbound = Inbound(
            line.message_id, place, line.author, line.text, line.at, Addressed.DM,
            images=line.images, files=line.files,
        )  # fmt: skip
        row = MessageRow(StoredMessage(seq, inbound, now, directed=True), MessageState.ANSWERED)
        self.seqs[place.platform, line.message_id] = seq
        self.messages[seq] = row
        return row

    def add_past_reply(
        self, channel: Channel, line: Line, seq: int, asked: MessageRow | None
    ) -> None:
        """A reply that was copied or imported; it answers `asked`."""
        reply_id = line.reply_id or ""
        position = seq if asked is None else asked.stored.seq
        stored = replace(line, seq=seq, position=position, message_id=reply_id)
        self.replies[reply_id] = ReplyRow(stored, channel, reply_id, (reply_id,))
        if asked is None:
            return
        asked.batch_id = reply_id
        batch = Batch(
            reply_id, reply_id, reply_id, BatchState.ANSWERED, directed=True, messages=(),
            attempt=1, lease_until=0.0, created_at=line.at,
        )  # fmt: skip
        self.batches[reply_id] = BatchRow(batch, channel, (position,), "")
