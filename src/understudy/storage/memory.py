"""Summaries, notes and search in the database: implements `memory/store.py`."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Update,
    and_,
    bindparam,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from understudy.conversation.inbox import Channel, Line
from understudy.conversation.speakers import unquoted
from understudy.conversation.words import search_words as words_of
from understudy.memory.store import (
    Family,
    Found,
    Hit,
    Note,
    NoteScope,
    Proposal,
    Recollection,
    Source,
    Summary,
    SummaryClaim,
    Wanted,
)
from understudy.storage import inbox_rows, note_rows, search_index
from understudy.storage.coordination import DatabaseClock
from understudy.storage.database import Database
from understudy.storage.statements import Statement
from understudy.storage.summaries import drop_of_channel, is_of
from understudy.storage.tables import (
    channels,
    messages,
    opt_outs,
    summaries,
    summary_authors,
)

_SUMMARY = Statement(
    select(summaries).where(
        summaries.c.platform == bindparam("platform"),
        summaries.c.channel_id == bindparam("channel_id"),
    )
)
_out = select(opt_outs.c.platform, opt_outs.c.author_id)
_opted_out = tuple_(messages.c.platform, messages.c.author_id).in_(_out)

# Built once: SQLAlchemy takes longer to build a statement than SQLite takes to run it.
_LINES = (
    select(messages)
    .where(
        messages.c.seq.in_(bindparam("seqs", expanding=True)),
        messages.c.position
        > func.coalesce(
            select(channels.c.reset_seq)
            .where(
                channels.c.platform == bindparam("platform"),
                channels.c.channel_id == bindparam("channel_id"),
            )
            .scalar_subquery(),
            0,
        ),
        ~_opted_out,
        messages.c.text.is_not(None),
    )
    .order_by(messages.c.seq.desc())
)


class SqlMemory:
    """The MemoryStore of one process; `owner` is unique among the running processes."""

    def __init__(self, database: Database, owner: str, clock: DatabaseClock | None = None) -> None:
        self._db = database
        self._owner = owner
        self._clock = clock or DatabaseClock()

    async def summary(self, channel: Channel) -> Summary:
        return await self._db.read(lambda on: _read_summary(on, channel))

    async def recollect(self, wanted: Wanted) -> Recollection:
        place = search_index.channel_place(wanted.channel)

        def work(connection: Connection) -> Recollection:
            newest = search_index.newest_of_each(connection, place, wanted.words, wanted.until)
            found = tuple(Found(word, tuple(seqs)) for word, seqs in newest.items())
            chosen = wanted.choose(found)
            lines = {line.seq: line for line in _read_lines(connection, wanted.channel, chosen)}
            return Recollection(
                _read_summary(connection, wanted.channel),
                note_rows.read_notes(connection, wanted.scopes),
                found,
                tuple(lines[seq] for seq in chosen if seq in lines),
            )

        return await self._db.read(work)

    async def claim_summary(
        self, channel: Channel, now: float, lease_s: float
    ) -> SummaryClaim | None:
        now += self._clock.offset
        row = {
            "platform": channel.platform,
            "channel_id": channel.id,
            "text": "",
            **dict.fromkeys(("first", "through", "compacted", "pending", "version"), 0),
            "made_at": now,
            "owner": self._owner,
            "leased_until": now + lease_s,
        }
        claimed = (
            insert(summaries)
            .values(row)
            .on_conflict_do_update(
                index_elements=["platform", "channel_id"],
                set_={"owner": self._owner, "leased_until": now + lease_s, "pending": 0},
                where=summaries.c.leased_until <= now,
            )
            .returning(summaries)
        )
        found = await self._db.write(lambda on: on.execute(claimed).mappings().one_or_none())
        return None if found is None else SummaryClaim(channel, _summary(found), found["version"])

    async def position_before(self, channel: Channel, recent: int) -> int:
        chosen = (
            select(messages.c.position)
            .where(
                messages.c.platform == channel.platform,
                messages.c.channel_id == channel.id,
                messages.c.text != "",
            )
            .order_by(messages.c.position.desc(), messages.c.seq.desc())
            .offset(recent)
            .limit(1)
        )
        found: int | None = await self._db.read(lambda on: on.scalar(chosen))
        return found or 0

    async def lines_to_summarize(
        self, claim: SummaryClaim, before: int, limit: int
    ) -> tuple[Line, ...]:
        here = and_(
            messages.c.platform == claim.channel.platform,
            messages.c.channel_id == claim.channel.id,
        )
        left_out = select(messages.c.position).where(here, messages.c.role == "user", _opted_out)
        chosen = (
            select(messages)
            .where(
                here,
                messages.c.position > claim.summary.through,
                messages.c.position > _reset_at(claim.channel),
                messages.c.position <= before,
                messages.c.position.not_in(left_out),
                messages.c.text != "",
            )
            .order_by(messages.c.position, messages.c.seq)
            .limit(limit)
        )

        def work(connection: Connection) -> tuple[Line, ...]:
            rows = connection.execute(chosen).mappings().all()
            reaches = update(summaries).where(self._mine(claim))
            connection.execute(reaches.values(pending=rows[-1]["position"] if rows else 0))
            return tuple(_line(row) for row in rows)

        return await self._db.write(work)

    async def save_summary(
        self, claim: SummaryClaim, summary: Summary, author_ids: Sequence[str]
    ) -> bool:
        ended = self._end(claim).values(
            text=summary.text,
            first=summary.first,
            through=summary.through,
            compacted=summary.compacted,
            made_at=summary.made_at,
        )
        place = {"platform": claim.channel.platform, "channel_id": claim.channel.id}
        authors = [place | {"author_id": author_id} for author_id in author_ids]

        def work(connection: Connection) -> bool:
            if connection.execute(ended).rowcount != 1:
                return False
            if authors:
                connection.execute(insert(summary_authors).on_conflict_do_nothing(), authors)
            return True

        return await self._db.write(work)

    async def release_summary(self, claim: SummaryClaim) -> None:
        mine = and_(is_of(claim.channel), summaries.c.owner == self._owner)
        ended = update(summaries).where(mine).values(leased_until=0.0, pending=0)
        await self._db.write(lambda on: on.execute(ended))

    async def forget_summary(self, channel: Channel) -> bool:
        dropped = await self._db.write(lambda on: drop_of_channel(on, channel))
        await self._db.scrub()
        return dropped

    async def notes(self, scopes: Sequence[NoteScope]) -> dict[NoteScope, tuple[Note, ...]]:
        return await self._db.read(lambda on: note_rows.read_notes(on, scopes))

    async def add_note(self, scope: NoteScope, text: str, now: float) -> Note | None:
        def work(connection: Connection) -> Note | None:
            # Two processes that add at the same time would not see each other's note.
            self._db.lock_channel(connection, Channel(scope.platform, f"notes {scope.author_id}"))
            return note_rows.add_note(connection, scope, text, now)

        return await self._db.write(work)

    async def delete_note(self, scope: NoteScope, number: int) -> bool:
        deleted = await self._db.write(lambda on: note_rows.delete_note(on, scope, number))
        await self._db.scrub()
        return deleted

    async def add_proposal(self, proposal: Proposal, sources: Sequence[Source]) -> bool:
        return await self._db.write(lambda on: note_rows.add_proposal(on, proposal, sources))

    async def proposal(self, scope: NoteScope, now: float) -> Proposal | None:
        return await self._db.read(lambda on: note_rows.read_proposal(on, scope, now))

    async def take_proposal(
        self, platform: str, author_id: str, proposal_id: str, now: float
    ) -> Proposal | None:
        taken = await self._db.write(
            lambda on: note_rows.take_proposal(on, platform, author_id, proposal_id, now)
        )
        await self._db.scrub()
        return taken

    async def drop_expired_proposals(self, now: float) -> None:
        await self._db.write(lambda on: note_rows.drop_expired_proposals(on, now))

    async def search(self, where: Channel | Family, query: str, limit: int) -> tuple[Hit, ...]:
        prefix, words = _parse_query(query)
        if not words and not prefix:
            return ()
        if isinstance(where, Channel):
            place = search_index.channel_place(where)
        else:
            place = search_index.parent_place(where.platform, where.parent_id)

        def work(connection: Connection) -> tuple[Hit, ...]:
            newest = search_index.newest_with(connection, [place, *words], limit, prefix=prefix)
            rows = _lines(connection, messages.c.seq.in_(newest))
            return tuple(
                Hit(Channel(row["platform"], row["channel_id"]), _line(row)) for row in rows
            )

        return await self._db.read(work)

    def _mine(self, claim: SummaryClaim) -> ColumnElement[bool]:
        return and_(
            is_of(claim.channel),
            summaries.c.owner == self._owner,
            summaries.c.version == claim.version,
        )

    def _end(self, claim: SummaryClaim) -> Update:
        return update(summaries).where(self._mine(claim)).values(leased_until=0.0, pending=0)


def _read_summary(connection: Connection, channel: Channel) -> Summary:
    here = {"platform": channel.platform, "channel_id": channel.id}
    row = _SUMMARY.run(connection, here).mappings().one_or_none()
    return Summary() if row is None else _summary(row)


def _parse_query(query: str) -> tuple[str, list[str]]:
    """The beginning of the last word, and the words before it."""
    *before, last = query.split() or [""]
    words = {word for text in before for word in words_of(text)}
    ending = words_of(last)
    if len(ending) == 1 and not query.endswith(" "):
        (prefix,) = ending
        return prefix, sorted(words)
    return "", sorted(words | ending)


def _reset_at(channel: Channel) -> ColumnElement[int]:
    start = select(channels.c.reset_seq).where(
        channels.c.platform == channel.platform, channels.c.channel_id == channel.id
    )
    return func.coalesce(start.scalar_subquery(), 0)


def _lines(connection: Connection, where: ColumnElement[bool]) -> Sequence[RowMapping]:
    chosen = select(messages).where(where, messages.c.text.is_not(None))
    return connection.execute(chosen.order_by(messages.c.seq.desc())).mappings().all()


def _line(row: RowMapping) -> Line:
    line = inbox_rows.line(row)
    return replace(line, text=unquoted(line.text))


def _summary(row: RowMapping) -> Summary:
    if row["through"] == 0:
        return Summary()
    return Summary(row["text"], row["first"], row["through"], row["compacted"], row["made_at"])


def _read_lines(connection: Connection, channel: Channel, seqs: Sequence[int]) -> tuple[Line, ...]:
    if not seqs:
        return ()
    wanted = {"platform": channel.platform, "channel_id": channel.id, "seqs": list(seqs)}
    return tuple(map(_line, connection.execute(_LINES, wanted).mappings()))
