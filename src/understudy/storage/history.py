"""The conversation history in the database: reading lines, and erasing them."""

from collections.abc import Callable, Sequence
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
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from understudy.conversation.inbox import Channel, Line, MessageState, Watermark
from understudy.conversation.speakers import QUOTE, QUOTE_END, unquoted
from understudy.routing.records import ReplyRecord
from understudy.storage import inbox_rows, search_index
from understudy.storage.database import Database
from understudy.storage.ledger_rows import read_replies
from understudy.storage.sql_functions import text_position
from understudy.storage.statements import Statement
from understudy.storage.summaries import (
    drop_before,
    drop_covering,
    drop_of_author,
    drop_of_channel,
)
from understudy.storage.tables import (
    FREE,
    SETTLED,
    batches,
    channels,
    messages,
    notes,
    replies,
    sent,
)
from understudy.storage.versions import read_versions, with_versions
from understudy.storage.volatile_text import VolatileTexts

Columns = TypeVar("Columns", bound=tuple[object, ...])

_OPEN = (MessageState.PENDING, MessageState.CLAIMED)


_QUOTE_END_AT = text_position(messages.c.text, QUOTE_END)
_UNQUOTE = (
    update(messages)
    .where(messages.c.text.startswith(QUOTE), _QUOTE_END_AT > 0)
    .values(text=func.substr(messages.c.text, _QUOTE_END_AT + len(QUOTE_END)))
)
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


_DROP_TITLES_OF_NOTHING = (
    update(channels)
    .where(
        channels.c.title.is_not(None),
        ~exists().where(
            messages.c.platform == channels.c.platform,
            messages.c.channel_id == channels.c.channel_id,
            messages.c.text.is_not(None),
        ),
    )
    .values(title=None)
)
"""A title says what a conversation was about, so it goes with the conversation's last message."""


class SqlHistory:
    """Reads and erases lines. With `volatile` given, text is stored there only."""

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

    async def reset(self, channel: Channel) -> None:
        newest = select(func.coalesce(func.max(messages.c.seq), 0)).scalar_subquery()
        row = {"platform": channel.platform, "channel_id": channel.id, "reset_seq": newest}
        statement = insert(channels).values(row)
        newer = statement.on_conflict_do_update(
            index_elements=["platform", "channel_id"], set_={"reset_seq": newest, "lore": None}
        )

        def work(connection: Connection) -> None:
            self._db.lock_channel(connection, channel)
            connection.execute(newer)
            drop_of_channel(connection, channel)

        await self._db.write(work)

    async def forget_author(self, platform: str, author_id: str) -> int:
        by_author = and_(
            messages.c.platform == platform,
            messages.c.author_id == author_id,
            messages.c.role == "user",
            *([messages.c.text.is_not(None)] if self._volatile is None else []),
        )
        ids = select(messages.c.message_id).where(by_author)
        quoting = and_(messages.c.platform == platform, messages.c.reply_to.in_(ids))
        own_notes = delete(notes).where(
            notes.c.platform == platform, notes.c.author_id == author_id
        )

        def remembered(connection: Connection) -> None:
            connection.execute(own_notes)
            drop_of_author(connection, platform, author_id)

        await self._drop_titles(by_author)
        forgotten = await self._erase(by_author, quoting, also=remembered)
        await self._remove_from_files()
        return forgotten

    async def delete_channel(self, channel: Channel) -> None:
        await self._drop_titles(within(channel))
        await self._erase(within(channel), also=lambda on: drop_of_channel(on, channel))
        await self._remove_from_files()

    async def prune(self, before: float) -> int:
        old = and_(
            messages.c.arrived_at < before,
            messages.c.state.not_in(_OPEN),
            # The row with the highest number stays, so that no number is used twice.
            messages.c.seq < select(func.max(messages.c.seq)).scalar_subquery(),
        )
        gone = select(messages.c.reply_id).where(old, messages.c.role == "assistant")

        def work(connection: Connection) -> int:
            search_index.remove(connection, old)
            drop_before(connection, before)
            connection.execute(delete(sent).where(sent.c.reply_id.in_(gone)))
            removed = connection.execute(delete(messages).where(old))
            connection.execute(_DROP_TITLES_OF_NOTHING)
            connection.execute(
                delete(batches).where(
                    batches.c.created_at < before,
                    SETTLED,
                    batches.c.id.not_in(
                        select(messages.c.batch_id).where(messages.c.batch_id.is_not(None))
                    ),
                )
            )
            return removed.rowcount

        removed = await self._db.write(work)
        await self._db.write(search_index.merge_some)
        # Single deletions are too frequent for a checkpoint each; this one covers them.
        await self._db.scrub()
        return removed

    @staticmethod
    def title_key(channel: Channel) -> tuple[str, str]:
        """Where the title is where text stays in memory."""
        return channel.platform, f"title:{channel.id}"

    async def _drop_titles(self, where: ColumnElement[bool]) -> None:
        """Erase titles: they are made from what people wrote."""
        if self._volatile is not None:
            for row in await self._rows(select(messages).where(where)):
                del self._volatile[self.title_key(Channel(row["platform"], row["channel_id"]))]
            return
        written = select(messages.c.platform, messages.c.channel_id).where(where)
        titled = and_(
            channels.c.title.is_not(None),
            tuple_(channels.c.platform, channels.c.channel_id).in_(written),
        )
        await self._db.write(
            lambda on: on.execute(update(channels).where(titled).values(title=None))
        )

    async def _erase(
        self,
        where: ColumnElement[bool],
        quoting: ColumnElement[bool] | None = None,
        *,
        replies_too: bool = True,
        also: Callable[[Connection], object] = lambda _: None,
    ) -> int:
        """Blank these messages, the replies to them, and the quotations of them in the messages
        that `quoting` selects; unclaimed ones become `ignored`. Does `also` in the same
        transaction."""
        answered = select(messages.c.batch_id).where(
            where, messages.c.batch_id.is_not(None), literal(replies_too)
        )
        replies_to_them = and_(messages.c.role == "assistant", messages.c.batch_id.in_(answered))
        state = case((FREE, MessageState.IGNORED.value), else_=messages.c.state)

        def work(connection: Connection) -> int:
            if quoting is not None:
                self._unquote(connection, quoting)
            also(connection)
            drop_covering(connection, where)
            search_index.remove(connection, or_(where, replies_to_them))
            erased = self._drop_volatile(connection, where, replies_to_them)
            connection.execute(
                update(messages).where(replies_to_them).values(text=None, thoughts=None)
            )
            done = connection.execute(
                update(messages).where(where).values(**inbox_rows.NO_TEXT, state=state)
            )
            return done.rowcount if erased is None else erased

        return await self._db.write(work)

    async def _remove_from_files(self) -> None:
        """Remove erased text from the index's pages and from the database's logs."""
        await self._db.write(search_index.optimize)
        await self._db.scrub()

    def _unquote(self, connection: Connection, quoting: ColumnElement[bool]) -> None:
        if self._volatile is None:
            connection.execute(_UNQUOTE.where(quoting))
            return
        chosen = select(messages.c.platform, messages.c.message_id).where(quoting)
        for platform, message_id in connection.execute(chosen):
            if text := self._volatile[platform, message_id]:
                own = replace(text, text=unquoted(text.text))
                self._volatile[platform, message_id] = own

    def _drop_volatile(
        self, connection: Connection, where: ColumnElement[bool], replied: ColumnElement[bool]
    ) -> int | None:
        """Erase text that is in memory only; returns how many user messages had any."""
        if self._volatile is None:
            return None
        count = 0
        chosen = select(messages.c.platform, messages.c.message_id, messages.c.role)
        for platform, message_id, role in connection.execute(chosen.where(or_(where, replied))):
            count += role == "user" and self._volatile[platform, message_id] is not None
            del self._volatile[platform, message_id]
        return count

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


def carried_by(platform: str, message_id: str) -> ColumnElement[bool]:
    """Selects all versions of the reply that a message of the bot carries."""
    shown = select(sent.c.reply_id).where(
        sent.c.platform == platform, sent.c.message_id == message_id
    )
    version = messages.alias("version")
    batch_id = select(version.c.batch_id).where(version.c.reply_id == shown.scalar_subquery())
    return or_(
        messages.c.reply_id == shown.scalar_subquery(),
        and_(messages.c.role == "assistant", messages.c.batch_id == batch_id.scalar_subquery()),
    )


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
