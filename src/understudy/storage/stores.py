"""Everything that is kept in one database, opened together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from understudy.storage.database import Database
from understudy.storage.inbox import SqlInbox
from understudy.storage.instance import take_instance
from understudy.storage.lore_effects import SqlEffects
from understudy.storage.preferences import SqlPreferences


@dataclass(frozen=True, slots=True)
class Stores:
    database: Database
    inbox: SqlInbox
    preferences: SqlPreferences
    effects: SqlEffects


@asynccontextmanager
async def open_storage(path: Path, *, persist: bool) -> AsyncGenerator[Stores]:
    """The stores of this process, its earlier self's leases given up.

    With `persist` off, nothing that people or the bot say reaches the disk. Raises StorageError
    with what to do about it.
    """
    database = await Database.open(path)
    try:
        instance = take_instance(path)
        try:
            inbox = SqlInbox(database, instance.name, persist=persist)
            await inbox.give_up_leases()
            yield Stores(database, inbox, SqlPreferences(database), SqlEffects(database))
        finally:
            instance.close()
    finally:
        await database.aclose()
