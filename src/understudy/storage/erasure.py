"""Erasing in the database: messages of a person, conversations, and what is old."""

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
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

from understudy.conversation.inbox import Channel, MessageState
from understudy.conversation.speakers import QUOTE, QUOTE_END, unquoted
from understudy.storage import inbox_rows, note_rows, search_index
from understudy.storage.history import SqlHistory, within
from understudy.storage.sql_functions import text_position
from understudy.storage.summaries import (
    drop_before,
    drop_covering,
    drop_of_author,
    drop_of_channel,
)
from understudy.storage.tables import FREE, SETTLED, batches, channels, messages, sent

_OPEN = (MessageState.PENDING, MessageState.CLAIMED)

_QUOTE_END_AT = text_position(messages.c.text, QUOTE_END)
_UNQUOTE = (
    update(messages)
    .where(messages.c.text.startswith(QUOTE), _QUOTE_END_AT > 0)
    .values(text=func.substr(messages.c.text, _QUOTE_END_AT + len(QUOTE_END)))
)
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


class SqlErasure(SqlHistory):
    """Erases text where it is stored: in its messages, their quotations, what was made of them, and
    the search index."""

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

        def remembered(connection: Connection) -> None:
            note_rows.delete_notes_of_author(connection, platform, author_id)
            note_rows.drop_proposals_of_author(connection, platform, author_id)
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
            note_rows.drop_expired_proposals(connection, before)
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
            note_rows.drop_proposals_from(connection, where)
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
