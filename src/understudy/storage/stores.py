"""Opens all stores of one database."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from understudy.storage.client_keys import SqlClientKeys
from understudy.storage.coordination import Coordinator, DatabaseClock, coordinated
from understudy.storage.database import Database
from understudy.storage.inbox import SqlInbox
from understudy.storage.lore_effects import SqlEffects
from understudy.storage.memory import SqlMemory
from understudy.storage.preferences import SqlPreferences


@dataclass(frozen=True, slots=True)
class Stores:
    database: Database
    coordinator: Coordinator
    inbox: SqlInbox
    preferences: SqlPreferences
    effects: SqlEffects
    client_keys: SqlClientKeys
    memory: SqlMemory | None
    """None where no text reaches the disk."""


@asynccontextmanager
async def open_storage(
    location: Path | str, *, persist: bool, config_rev: str = "", interval_s: float | None = None
) -> AsyncGenerator[Stores]:
    """The stores of this process, after releasing the leases of dead ones.

    `location` is a SQLite file or a `storage.url`. With `persist` off, no text of people or of the
    bot reaches the disk. Raises StorageError with advice for the operator.
    """
    database = await Database.open(location)
    try:
        async with coordinated(database, config_rev, interval_s) as coordinator:
            inbox = make_inbox(database, coordinator.id, persist=persist, clock=coordinator.clock)
            yield Stores(
                database,
                coordinator,
                inbox,
                SqlPreferences(database),
                SqlEffects(database),
                SqlClientKeys(database),
                SqlMemory(database, coordinator.id, coordinator.clock) if persist else None,
            )
    finally:
        await database.aclose()


def make_inbox(
    database: Database, owner: str, *, persist: bool, clock: DatabaseClock | None = None
) -> SqlInbox:
    """The inbox for this kind of database."""
    if not database.is_shared:
        return SqlInbox(database, owner, persist=persist, clock=clock)
    from understudy.storage.postgres_inbox import PostgresInbox

    return PostgresInbox(database, owner, persist=persist, clock=clock)
