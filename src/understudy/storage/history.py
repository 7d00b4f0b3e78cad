"""The conversation history in the database: reading lines."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Executable,
    RowMapping,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
)

from understudy.conversation.inbox import Channel, Line, MessageState, Watermark
from understudy.routing.records import ReplyRecord
from understudy.storage import inbox_rows
from understudy.storage.database import Database
from understudy.storage.ledger_statements import read_replies
from understudy.storage.statements import Statement
from understudy.storage.tables import (
    batches,
    channels,
    messages,
    replies,
    sent,
)
from understudy.storage.versions import read_versions, with_versions
from understudy.storage.volatile_text import VolatileTexts

Columns = TypeVar("Columns", bound=tuple[object, ...])

_NOT_EMPTY = or_(
    messages.c.text != "", messages.c.images.is_not(None), messages.c.files.is_not(None)
)


def _newest_first(chosen: Select[Columns]) -> Select[Columns]:
    return chosen.order_by(messages.c.position.desc(), messages.c.seq.desc())


def _history() -> Select[tuple[object, ...]]:
    platform: BindParameter[str] = bindparam("platform")
    channel_id: BindParameter[str] = bindparam("channel_id")
    start = select(channels.c.reset_seq).where(
        channels.c.platform == platform, channels.c.channel_id == channel_id
    )
    until_seq: BindParameter[int] = bindparam("until_seq")
    own = and_(messages.c.role == "assistant", messages.c.position == until_seq)
    return _newest_first(
        select(*(messages.c[name] for name in inbox_rows.LINE)).where(
            messages.c.platform == platform,
            messages.c.channel_id == channel_id,
            messages.c.position > func.coalesce(start.scalar_subquery(), 0),
            messages.c.position <= until_seq,
            ~own,
            ~messages.c.superseded,
        )
    ).limit(bindparam("limit"))


_ALL_HISTORY = Statement(_history())
_HISTORY = Statement(_history().where(_NOT_EMPTY))


class SqlHistory:
    """Reads lines. With `volatile` given, text is stored there only."""

    def __init__(self, database: Database, volatile: VolatileTexts | None) -> None:
        self._db = database
        self._volatile = volatile

    async def history(self, channel: Channel, until_seq: int, limit: int) -> tuple[Line, ...]:
        chosen = _HISTORY if self._volatile is None else _ALL_HISTORY
        wanted = {
            "platform": channel.platform,
            "channel_id": channel.id,
            "until_seq": until_seq,
            "limit": limit,
        }
        found = await self._db.read(lambda on: chosen.run(on, wanted).mappings().all())
        return self._to_lines(found[::-1])

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]:
        chosen = self._select_lines(channel).limit(limit)
        if before_seq is not None:
            chosen = chosen.where(messages.c.seq < before_seq)

        def work(connection: Connection) -> tuple[Line, ...]:
            found = connection.execute(chosen).mappings().all()
            ids = [_record_id(row) for row in found if row["reply_id"]]
            runs = read_replies(connection, replies.c.request_id.in_(ids)) if ids else ()
            lines = self._to_lines(found[::-1], {record.request_id: record for record in runs})
            lines = _with_stopped(lines, _stopped_replies(connection, found))
            return with_versions(lines, read_versions(connection, found))

        return await self._db.read(work)

    async def knows(self, channel: Channel) -> bool:
        chosen = select(messages.c.seq).where(within(channel)).limit(1)
        return await self._db.read(lambda on: on.scalars(chosen).first()) is not None

    async def reply_at(self, platform: str, message_id: str) -> str | None:
        chosen = select(sent.c.reply_id).where(
            sent.c.platform == platform, sent.c.message_id == message_id
        )
        return await self._reply_id(chosen)

    async def channel_of_reply(self, reply_id: str) -> Channel | None:
        chosen = select(batches.c.platform, batches.c.channel_id).where(
            batches.c.reply_id == reply_id
        )
        found = await self._db.read(lambda on: on.execute(chosen).first())
        return None if found is None else Channel(found.platform, found.channel_id)

    async def parts(self, reply_id: str) -> tuple[str, ...]:
        chosen = parts_of(reply_id)
        return await self._db.read(lambda on: tuple(on.scalars(chosen).all()))

    async def last_reply(self, channel: Channel) -> str | None:
        chosen = select(messages.c.reply_id).where(
            within(channel), messages.c.role == "assistant", ~messages.c.superseded
        )
        return await self._reply_id(_newest_first(chosen).limit(1))

    async def watermarks(self, platform: str, since: float) -> tuple[Watermark, ...]:
        newest = (
            select(func.max(messages.c.seq))
            .where(
                messages.c.arrived_at >= since,
                messages.c.platform == platform,
                messages.c.role == "user",
            )
            .group_by(messages.c.channel_id)
        )
        chosen = select(messages).where(messages.c.seq.in_(newest))
        found = await self._rows(chosen)
        return tuple(Watermark(inbox_rows.place(row), row["message_id"]) for row in found)

    async def recent_people(self, platform: str, since: float, limit: int) -> tuple[str, ...]:
        chosen = (
            select(messages.c.author_id)
            .where(
                messages.c.arrived_at >= since,
                messages.c.platform == platform,
                messages.c.role == "user",
                messages.c.addressed.is_not(None),
                messages.c.private.is_(False),
                messages.c.author_is_bot.is_(False),
            )
            .group_by(messages.c.author_id)
            .order_by(func.max(messages.c.seq).desc())
            .limit(limit)
        )
        return await self._db.read(lambda on: tuple(on.scalars(chosen).all()))

    @staticmethod
    def title_key(channel: Channel) -> tuple[str, str]:
        """Where the title is where text stays in memory."""
        return channel.platform, f"title:{channel.id}"

    def _select_lines(self, channel: Channel) -> Select[tuple[object, ...]]:
        chosen = _newest_first(select(messages).where(within(channel), ~messages.c.superseded))
        return chosen if self._volatile is not None else chosen.where(_NOT_EMPTY)

    def _to_lines(
        self, found: Sequence[RowMapping], records: dict[str, ReplyRecord] | None = None
    ) -> tuple[Line, ...]:
        """The rows as lines, without empty ones."""
        lines = (
            self._with_text(row, inbox_rows.line(row, (records or {}).get(_record_id(row) or "")))
            for row in found
        )
        return tuple(line for line in lines if line.text or line.images or line.files)

    def _with_text(self, row: RowMapping, line: Line) -> Line:
        """The line with its text from memory, where it is there."""
        text = self._volatile and self._volatile[row["platform"], row["message_id"]]
        if not text:
            return line
        author = replace(line.author, name=text.name)
        return replace(
            line,
            author=author,
            text=text.text,
            images=text.images,
            files=text.files,
            thoughts=text.thoughts,
        )

    async def _reply_id(self, chosen: Select[tuple[str]]) -> str | None:
        found = await self._rows(chosen.limit(1))
        return found[0]["reply_id"] if found else None

    async def _rows(self, chosen: Executable) -> Sequence[RowMapping]:
        return await self._db.read(lambda on: on.execute(chosen).mappings().all())


def parts_of(reply_id: str) -> Select[str]:
    return select(sent.c.message_id).where(sent.c.reply_id == reply_id).order_by(sent.c.part)


def within(channel: Channel) -> ColumnElement[bool]:
    return and_(messages.c.platform == channel.platform, messages.c.channel_id == channel.id)


def within_channels(channel: Channel) -> ColumnElement[bool]:
    return and_(channels.c.platform == channel.platform, channels.c.channel_id == channel.id)


def _record_id(row: RowMapping) -> str | None:
    record_id: str | None = row["record_id"] or row["reply_id"]
    return record_id


def _stopped_replies(connection: Connection, found: Sequence[RowMapping]) -> dict[int, str]:
    """Ids of the replies that were stopped before their first text, by `seq` of the message."""
    batch_ids = {
        row["batch_id"]: row["seq"]
        for row in found
        if row["state"] == MessageState.IGNORED and row["batch_id"] is not None
    }
    if not batch_ids:
        return {}
    chosen = select(batches.c.id, batches.c.reply_id).where(batches.c.id.in_(batch_ids))
    return {batch_ids[row.id]: row.reply_id for row in connection.execute(chosen)}


def _with_stopped(lines: Sequence[Line], stopped: dict[int, str]) -> tuple[Line, ...]:
    return tuple(
        replace(line, reply_id=stopped[line.seq]) if line.seq in stopped else line for line in lines
    )
