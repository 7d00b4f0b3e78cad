"""Whole conversations in the database: their list, titles, versions of replies, and a past that
was copied or imported."""

from collections.abc import Sequence

from sqlalchemy import Connection, exists, func, select, true
from sqlalchemy.dialects.postgresql import insert

from understudy.conversation.inbox import Channel, Line, Overview
from understudy.conversation.messages import Place
from understudy.storage import inbox_rows, search_index
from understudy.storage.database import channel_key
from understudy.storage.erasure import SqlErasure
from understudy.storage.history import within, within_channels
from understudy.storage.sql_functions import new_seq_in
from understudy.storage.tables import batches, channels, messages, sent
from understudy.storage.versions import choose_version
from understudy.storage.volatile_text import MessageText

_TITLE_CHARS = 60
_ADD_MESSAGE = insert(messages)
_ADD_BATCH = insert(batches)
_ADD_SENT = insert(sent)


class SqlConversations(SqlErasure):
    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]:
        chosen = (
            select(
                messages.c.channel_id,
                func.min(messages.c.seq).label("first"),
                func.max(messages.c.arrived_at).label("last_at"),
                func.max(channels.c.title).label("title"),
            )
            .outerjoin(
                channels,
                (channels.c.platform == messages.c.platform)
                & (channels.c.channel_id == messages.c.channel_id),
            )
            .where(
                messages.c.platform == platform,
                messages.c.parent_id == parent_id,
                messages.c.text.is_not(None) if self._volatile is None else true(),
            )
            .group_by(messages.c.channel_id)
            .order_by(func.max(messages.c.arrived_at).desc())
        )
        found = await self._rows(chosen)
        firsts = select(messages).where(messages.c.seq.in_([row["first"] for row in found]))
        lines = self._to_lines(await self._rows(firsts))
        texts = {line.seq: line.text[:_TITLE_CHARS] for line in lines}
        overviews = []
        for row in found:
            channel = Channel(platform, row["channel_id"])
            if self._volatile is None or row["first"] in texts:
                title = row["title"] or self._volatile_title(channel) or texts.get(row["first"], "")
                overviews.append(Overview(channel, title, row["last_at"]))
        return tuple(overviews)

    async def title(self, channel: Channel) -> str | None:
        if self._volatile is not None:
            return self._volatile_title(channel)
        chosen = select(channels.c.title).where(within_channels(channel))
        return await self._db.read(lambda connection: connection.scalar(chosen))

    async def set_title(self, channel: Channel, title: str, *, replace: bool) -> bool:
        if self._volatile is not None:
            if not replace and self._volatile_title(channel):
                return False
            self._volatile[self.title_key(channel)] = MessageText("", title)
            return True
        row = {"platform": channel.platform, "channel_id": channel.id, "title": title}
        upsert = (
            insert(channels)
            .values(row)
            .on_conflict_do_update(
                index_elements=["platform", "channel_id"],
                set_={"title": title},
                where=true() if replace else channels.c.title.is_(None),
            )
            .returning(channels.c.title)
        )
        return await self._db.write(lambda on: on.execute(upsert).first()) is not None

    async def reply_line(self, reply_id: str) -> Line | None:
        found = await self._rows(select(messages).where(messages.c.reply_id == reply_id))
        return next(iter(self._to_lines(found)), None)

    async def choose_version(self, channel: Channel, reply_id: str) -> bool:
        return await self._db.write(lambda on: choose_version(on, channel, reply_id))

    async def add_past(self, place: Place, lines: Sequence[Line], now: float) -> bool:
        channel = Channel.of(place)

        def work(connection: Connection) -> bool:
            self._db.lock_channel(connection, channel)
            if connection.scalar(select(exists().where(within(channel)))):
                return False
            asked: dict[str, object] | None = None
            for line in lines:
                seq: int = connection.scalars(select(new_seq_in(channel_key(channel)))).one()
                row = inbox_rows.past_row(place, line, seq, now)
                if line.role == "user":
                    asked = row
                    answer = _answer_to(line, lines)
                    row["batch_id"] = answer and answer.reply_id
                elif asked is not None and asked["batch_id"] == line.reply_id:
                    row |= {"position": asked["seq"], "batch_id": line.reply_id}
                    connection.execute(_ADD_BATCH, inbox_rows.past_batch(channel, line, now))
                stored = self._without_text(row, line)
                connection.execute(_ADD_MESSAGE, stored)
                search_index.add(connection, stored)
                if line.role == "assistant":
                    connection.execute(_ADD_SENT, inbox_rows.past_sent(channel, line))
            return True

        return await self._db.write(work)

    def _without_text(self, row: dict[str, object], line: Line) -> dict[str, object]:
        """The row as it is stored: where text stays in memory, without it."""
        if self._volatile is None:
            return row
        text = MessageText(
            line.author.name, line.text, line.images, line.files, thoughts=line.thoughts
        )
        self._volatile[str(row["platform"]), str(row["message_id"])] = text
        return row | inbox_rows.NO_TEXT

    def _volatile_title(self, channel: Channel) -> str | None:
        text = None if self._volatile is None else self._volatile[self.title_key(channel)]
        return None if text is None else text.text


def _answer_to(line: Line, lines: Sequence[Line]) -> Line | None:
    """The reply right behind a person's line."""
    behind = lines[lines.index(line) + 1 :]
    return behind[0] if behind and behind[0].role == "assistant" else None
