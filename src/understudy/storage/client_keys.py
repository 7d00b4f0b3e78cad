"""Keys of the gateway in the database."""

from dataclasses import asdict

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from understudy.routing.client_keys import KeyLimitValues, StoredKey
from understudy.storage.database import Database
from understudy.storage.tables import gateway_keys


class SqlClientKeys:
    """Implements `routing/client_keys.py`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def load(self) -> tuple[StoredKey, ...]:
        def work(connection: Connection) -> tuple[StoredKey, ...]:
            found = connection.execute(select(gateway_keys).order_by(gateway_keys.c.name))
            return tuple(
                StoredKey(
                    row["name"],
                    row["sha256"],
                    row["created_at"],
                    row["revoked_at"],
                    KeyLimitValues(*(row[name] for name in KeyLimitValues.__slots__)),
                )
                for row in found.mappings()
            )

        return await self._db.read(work)

    async def put(self, key: StoredKey) -> None:
        values = {
            "sha256": key.sha256,
            "created_at": key.created_at,
            "revoked_at": key.revoked_at,
            **asdict(key.limits),
        }
        statement = insert(gateway_keys).values(name=key.name, **values)
        upsert = statement.on_conflict_do_update(index_elements=["name"], set_=values)
        await self._db.write(lambda connection: connection.execute(upsert))
