"""Preferences of channels and opt-outs of people, in the database."""

from sqlalchemy import Connection, and_, delete, or_, select
from sqlalchemy.dialects.postgresql import insert

from understudy.conversation.inbox import Channel
from understudy.conversation.preferences import ChannelPreferences, PreferenceSnapshot
from understudy.storage import note_rows, search_index
from understudy.storage.database import Database
from understudy.storage.summaries import drop_of_author
from understudy.storage.tables import channels, messages, opt_outs


class SqlPreferences:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def load(self) -> PreferenceSnapshot:
        is_set = or_(
            channels.c.muted_until > 0,
            channels.c.persona.is_not(None),
            channels.c.candidate.is_not(None),
        )

        def work(connection: Connection) -> PreferenceSnapshot:
            found = connection.execute(select(channels).where(is_set)).mappings()
            preferences = {
                Channel(row["platform"], row["channel_id"]): ChannelPreferences(
                    row["muted_until"], row["persona"], row["candidate"]
                )
                for row in found
            }
            opted_out = connection.execute(select(opt_outs)).all()
            return PreferenceSnapshot(
                preferences, frozenset((platform, author) for platform, author in opted_out)
            )

        return await self._db.read(work)

    async def load_channel(self, channel: Channel) -> ChannelPreferences:
        chosen = select(channels.c.muted_until, channels.c.persona, channels.c.candidate).where(
            channels.c.platform == channel.platform, channels.c.channel_id == channel.id
        )
        row = await self._db.read(lambda on: on.execute(chosen).one_or_none())
        return ChannelPreferences() if row is None else ChannelPreferences(*row)

    async def set_channel(self, channel: Channel, preferences: ChannelPreferences) -> None:
        values = {
            "muted_until": preferences.muted_until,
            "persona": preferences.persona,
            "candidate": preferences.candidate,
        }
        statement = insert(channels).values(
            platform=channel.platform, channel_id=channel.id, **values
        )
        upsert = statement.on_conflict_do_update(
            index_elements=["platform", "channel_id"], set_=values
        )
        await self._db.write(lambda connection: connection.execute(upsert))

    async def set_opt_out(self, platform: str, author_id: str, *, out: bool) -> None:
        row = {"platform": platform, "author_id": author_id}
        statement = (
            insert(opt_outs).values(row).on_conflict_do_nothing()
            if out
            else delete(opt_outs).filter_by(**row)
        )

        def work(connection: Connection) -> None:
            connection.execute(statement)
            if out:
                drop_of_author(connection, platform, author_id)
                note_rows.drop_proposals_of_author(connection, platform, author_id)
                by_author = and_(messages.c.platform == platform, messages.c.author_id == author_id)
                search_index.remove(connection, by_author)

        await self._db.write(work)
