"""Opens all stores of one database."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from understudy.storage.database import Database
from understudy.storage.inbox import SqlInbox
from understudy.storage.instance import Instance, acquire_instance
from understudy.storage.lore_effects import SqlEffects
from understudy.storage.preferences import SqlPreferences
from understudy.storage.sqlite_database import SqliteDatabase


@dataclass(frozen=True, slots=True)
class Stores:
    database: Database
    inbox: SqlInbox
    preferences: SqlPreferences
    effects: SqlEffects


@asynccontextmanager
async def open_storage(location: Path | str, *, persist: bool) -> AsyncGenerator[Stores]:
    """The stores of this process, after releasing the leases of its predecessor.

    `location` is a SQLite file or a `storage.url`. With `persist` off, no text of people or of the
    bot reaches the disk. Raises StorageError with advice for the operator.
    """
    database = await Database.open(location)
    try:
        instance = _instance(database)
        try:
            inbox = SqlInbox(database, instance.name, persist=persist)
            await inbox.release_leases()
            yield Stores(database, inbox, SqlPreferences(database), SqlEffects(database))
        finally:
            instance.close()
    finally:
        await database.aclose()


def _instance(database: Database) -> Instance:
    if isinstance(database, SqliteDatabase):
        return acquire_instance(database.path)
    return Instance(secrets.token_hex(8))
