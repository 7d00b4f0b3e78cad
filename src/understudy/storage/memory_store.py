"""The conversation's memory in the database: its lines, and how they are forgotten."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    and_,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from understudy.conversation.inbox import Channel, Line, MessageState, Overview, Watermark
from understudy.routing.attempts import ReplyRecord
from understudy.storage import rows
from understudy.storage.database import Database
from understudy.storage.keepsake import Keepsake
from understudy.storage.records import read_replies
from understudy.storage.tables import FREE, SETTLED, batches, channels, messages, replies, sent

Chosen = TypeVar("Chosen", bound=tuple[object, ...])

_TITLE_CHARS = 60
_OPEN = (MessageState.PENDING, MessageState.CLAIMED)
_FORGOTTEN = {"text": None, "images": None, "notes": None, "author_name": ""}


class SqlMemory:
    """Reads and forgets lines. With a keepsake, words are kept there and nowhere else."""

    def __init__(self, database: Database, keepsake: Keepsake | None) -> None:
        self._db = database
        self._keepsake = keepsake

    async def history(self, channel: Channel, until_seq: int, limit: int) -> tuple[Line, ...]:
        start = select(channels.c.reset_seq).where(
            channels.c.platform == channel.platform, channels.c.channel_id == channel.id
        )
        own = and_(messages.c.role == "assistant", messages.c.position == until_seq)
        chosen = self._lines(channel).where(
            messages.c.position > func.coalesce(start.scalar_subquery(), 0),
            messages.c.position <= until_seq,
            ~own,
        )
        async with self._db.read() as connection:
            found = (await connection.execute(chosen.limit(limit))).mappings().all()
        return self._said(found[::-1])

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]:
        chosen = self._lines(channel).limit(limit)
        if before_seq is not None:
            chosen = chosen.where(messages.c.seq < before_seq)
        async with self._db.read() as connection:
            found = (await connection.execute(chosen)).mappings().all()
            ids = [row["reply_id"] for row in found if row["reply_id"]]
            runs = await read_replies(connection, replies.c.request_id.in_(ids)) if ids else ()
        newest = {record.request_id: record for record in runs}
        return self._said(found[::-1], newest)

    async def reply_at(self, platform: str, message_id: str) -> str | None:
        chosen = select(sent.c.reply_id).where(
            sent.c.platform == platform, sent.c.message_id == message_id
        )
        return await self._text(chosen)

    async def last_reply(self, channel: Channel) -> str | None:
        chosen = select(messages.c.reply_id).where(_within(channel), messages.c.role == "assistant")
        return await self._text(_newest_first(chosen).limit(1))

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
        async with self._db.read() as connection:
            found = (await connection.execute(chosen)).mappings().all()
        return tuple(Watermark(rows.place(row), row["message_id"]) for row in found)

    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]:
        chosen = (
            select(
                messages.c.channel_id,
                func.min(messages.c.seq).label("first"),
                func.max(messages.c.arrived_at).label("last_at"),
            )
            .where(
                messages.c.platform == platform,
                messages.c.parent_id == parent_id,
                messages.c.text.is_not(None) if self._keepsake is None else true(),
            )
            .group_by(messages.c.channel_id)
            .order_by(func.max(messages.c.arrived_at).desc())
        )
        async with self._db.read() as connection:
            found = (await connection.execute(chosen)).mappings().all()
            firsts = select(messages).where(messages.c.seq.in_([row["first"] for row in found]))
            lines = self._said((await connection.execute(firsts)).mappings().all())
        titles = {line.seq: line.text[:_TITLE_CHARS] for line in lines}
        return tuple(
            Overview(
                Channel(platform, row["channel_id"]), titles.get(row["first"], ""), row["last_at"]
            )
            for row in found
            if self._keepsake is None or row["first"] in titles
        )

    async def reset(self, channel: Channel) -> None:
        newest = select(func.coalesce(func.max(messages.c.seq), 0)).scalar_subquery()
        row = {"platform": channel.platform, "channel_id": channel.id, "reset_seq": newest}
        statement = insert(channels).values(row)
        async with self._db.write() as connection:
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["platform", "channel_id"],
                    set_={"reset_seq": newest, "lore": None},
                )
            )

    async def forget_author(self, platform: str, author_id: str) -> int:
        return await self._forget(
            and_(
                messages.c.platform == platform,
                messages.c.author_id == author_id,
                messages.c.role == "user",
                messages.c.text.is_not(None) if self._keepsake is None else true(),
            )
        )

    async def delete_channel(self, channel: Channel) -> None:
        await self._forget(_within(channel))

    async def prune(self, before: float) -> int:
        old = and_(
            messages.c.arrived_at < before,
            messages.c.state.not_in(_OPEN),
            # The highest number stays, so that none is given twice.
            messages.c.seq < select(func.max(messages.c.seq)).scalar_subquery(),
        )
        gone = select(messages.c.reply_id).where(old, messages.c.role == "assistant")
        async with self._db.write() as connection:
            await connection.execute(delete(sent).where(sent.c.reply_id.in_(gone)))
            removed = await connection.execute(delete(messages).where(old))
            await connection.execute(
                delete(batches).where(
                    batches.c.created_at < before,
                    SETTLED,
                    batches.c.id.not_in(
                        select(messages.c.batch_id).where(messages.c.batch_id.is_not(None))
                    ),
                )
            )
        return removed.rowcount

    async def _forget(self, where: ColumnElement[bool], *, replies_too: bool = True) -> int:
        """Blank these messages and the replies to them; what nobody claimed is not answered."""
        answered = select(messages.c.batch_id).where(
            where, messages.c.batch_id.is_not(None), literal(replies_too)
        )
        replies_to_them = and_(messages.c.role == "assistant", messages.c.batch_id.in_(answered))
        state = case((FREE, MessageState.IGNORED.value), else_=messages.c.state)
        async with self._db.write() as connection:
            kept = await self._drop_kept(connection, where, replies_to_them)
            await connection.execute(update(messages).where(replies_to_them).values(text=None))
            done = await connection.execute(
                update(messages).where(where).values(**_FORGOTTEN, state=state)
            )
        return done.rowcount if kept is None else kept

    async def _drop_kept(
        self, connection: AsyncConnection, said: ColumnElement[bool], replied: ColumnElement[bool]
    ) -> int | None:
        """Forget words that only memory keeps; how many messages had any."""
        if self._keepsake is None:
            return None
        count = 0
        chosen = select(messages.c.platform, messages.c.message_id, messages.c.role)
        for platform, message_id, role in await connection.execute(
            chosen.where(or_(said, replied))
        ):
            count += role == "user" and self._keepsake[platform, message_id] is not None
            del self._keepsake[platform, message_id]
        return count

    def _lines(self, channel: Channel) -> Select[tuple[object, ...]]:
        chosen = _newest_first(select(messages).where(_within(channel)))
        if self._keepsake is not None:
            return chosen
        return chosen.where(or_(messages.c.text != "", messages.c.images.is_not(None)))

    def _said(
        self, found: Sequence[RowMapping], records: dict[str, ReplyRecord] | None = None
    ) -> tuple[Line, ...]:
        """The rows as lines, without those that say nothing."""
        lines = (
            self._kept(row, rows.line(row, (records or {}).get(row["reply_id"]))) for row in found
        )
        return tuple(line for line in lines if line.text or line.images)

    def _kept(self, row: RowMapping, line: Line) -> Line:
        """With its words, where memory keeps them."""
        words = self._keepsake and self._keepsake[row["platform"], row["message_id"]]
        if not words:
            return line
        author = replace(line.author, name=words.name)
        return replace(line, author=author, text=words.text, images=words.images)

    async def _text(self, chosen: Select[tuple[str]]) -> str | None:
        async with self._db.read() as connection:
            found: str | None = await connection.scalar(chosen)
        return found


def _within(channel: Channel) -> ColumnElement[bool]:
    return and_(messages.c.platform == channel.platform, messages.c.channel_id == channel.id)


def _newest_first(chosen: Select[Chosen]) -> Select[Chosen]:
    return chosen.order_by(messages.c.position.desc(), messages.c.seq.desc())
