"""Timed effects of lorebook entries per conversation, in the database."""

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from understudy.conversation.lore.effects import StoredEffects
from understudy.storage.database import Database
from understudy.storage.tables import channels


class SqlEffects:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def effects(self, platform: str, channel_id: str) -> StoredEffects:
        wanted = select(channels.c.lore).filter_by(platform=platform, channel_id=channel_id)
        found: str | None = await self._db.read(lambda connection: connection.scalar(wanted))
        return StoredEffects() if found is None else msgspec.json.decode(found, type=StoredEffects)

    async def save_effects(self, platform: str, channel_id: str, kept: StoredEffects) -> None:
        lore = msgspec.json.encode(kept).decode()
        statement = insert(channels).values(platform=platform, channel_id=channel_id, lore=lore)
        newer = statement.on_conflict_do_update(
            index_elements=["platform", "channel_id"], set_={"lore": lore}
        )
        await self._db.write(lambda connection: connection.execute(newer))
