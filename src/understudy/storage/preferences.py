"""What people asked of the bot, in the database."""

from sqlalchemy import Connection, delete, or_, select
from sqlalchemy.dialects.sqlite import insert

from understudy.conversation.inbox import Channel
from understudy.conversation.preferences import ChannelPreferences, PreferenceSnapshot
from understudy.storage.database import Database
from understudy.storage.tables import channels, opt_outs


class SqlPreferences:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def load(self) -> PreferenceSnapshot:
        asked = or_(channels.c.muted_until > 0, channels.c.persona.is_not(None))

        def work(connection: Connection) -> PreferenceSnapshot:
            found = connection.execute(select(channels).where(asked)).mappings()
            wishes = {
                Channel(row["platform"], row["channel_id"]): ChannelPreferences(
                    row["muted_until"], row["persona"]
                )
                for row in found
            }
            out = connection.execute(select(opt_outs)).all()
            return PreferenceSnapshot(
                wishes, frozenset((platform, author) for platform, author in out)
            )

        return await self._db.read(work)

    async def set_channel(self, channel: Channel, wishes: ChannelPreferences) -> None:
        asked = {"muted_until": wishes.muted_until, "persona": wishes.persona}
        statement = insert(channels).values(
            platform=channel.platform, channel_id=channel.id, **asked
        )
        kept = statement.on_conflict_do_update(
            index_elements=["platform", "channel_id"], set_=asked
        )
        await self._db.write(lambda connection: connection.execute(kept))

    async def set_opt_out(self, platform: str, author_id: str, *, out: bool) -> None:
        row = {"platform": platform, "author_id": author_id}
        wish = (
            insert(opt_outs).values(row).on_conflict_do_nothing()
            if out
            else delete(opt_outs).filter_by(**row)
        )
        await self._db.write(lambda connection: connection.execute(wish))
