"""The database of a process: the interface of SQLite and PostgreSQL, and how URLs name one."""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, TypeVar

from sqlalchemy import URL, Connection, inspect, make_url, text
from sqlalchemy.exc import ArgumentError

from understudy.conversation.inbox import Channel
from understudy.errors import StorageError
from understudy.storage.schema import HEAD, metadata

R = TypeVar("R")
_EXAMPLES = "sqlite:///understudy.db or postgresql+psycopg://user@host/database"

NEEDS_PACKAGES = "storage.url: PostgreSQL needs more packages: pip install 'understudy[postgres]'"


def storage_url(url: str) -> URL:
    """A parsed `storage.url`. Raises StorageError where it is neither SQLite nor PostgreSQL."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError(f"storage.url: write it as {_EXAMPLES}") from None
    if parsed.get_backend_name() == "postgresql":
        if parsed.drivername not in ("postgresql", "postgresql+psycopg") or not parsed.database:
            raise StorageError(f"storage.url: write it as {_EXAMPLES}")
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite" or not parsed.database or ":memory:" in url:
        raise StorageError(f"storage.url: write it as {_EXAMPLES}")
    return parsed


def sqlite_path(url: str) -> Path | None:
    """The file of a `storage.url`; None for PostgreSQL. Raises StorageError."""
    parsed = storage_url(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


class Database(ABC):
    """The database connections of one process. Opened with `open`, closed with `aclose`.

    A unit of work is a function of a connection. It runs on a thread from beginning to end, so
    that its caller waits once, however many statements it has. A unit that has begun is finished
    even when its caller is cancelled. PostgreSQL may run a unit again after a lost connection or a
    deadlock, when nothing of it was committed.
    """

    name: str
    """For messages; holds no password."""
    is_shared: ClassVar[bool] = False
    """Whether other machines can use it."""

    @staticmethod
    async def open(location: Path | str) -> "Database":
        """Open a SQLite file or a `storage.url`, with the newest schema.

        Raises StorageError with advice for the operator.
        """
        path = location if isinstance(location, Path) else sqlite_path(location)
        if path is not None:
            from understudy.storage.sqlite_database import SqliteDatabase

            return await SqliteDatabase.open_file(path)
        try:
            from understudy.storage.postgres_database import PostgresDatabase
        except ImportError:
            raise StorageError(NEEDS_PACKAGES) from None
        return await PostgresDatabase.open_url(storage_url(str(location)))

    @abstractmethod
    async def read(self, work: Callable[[Connection], R]) -> R:
        """Run outside any transaction: each query sees what is committed by then."""

    @abstractmethod
    async def write(self, work: Callable[[Connection], R]) -> R:
        """Run in a transaction; an exception rolls it back."""

    async def write_one(self, work: Callable[[Connection], R]) -> R:
        """Run work that executes one statement, which is a transaction by itself.

        After a lost connection PostgreSQL may run it again although it was committed.
        """
        return await self.write(work)

    @abstractmethod
    async def scrub(self) -> None:
        """Remove overwritten text from the database's logs where this process can."""

    @abstractmethod
    async def aclose(self) -> None: ...

    @abstractmethod
    def lock_channel(self, connection: Connection, channel: Channel) -> None:
        """Serialize the write transactions of one channel, until this transaction ends."""

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def channel_key(channel: Channel) -> int:
    """Names a channel in an advisory lock."""
    name = f"{channel.platform}\0{channel.id}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), signed=True)


def upgrade_schema(connection: Connection) -> None:
    """Create the schema of a new database directly; only an older one needs Alembic, which is slow
    to import."""
    found = schema_version(connection)
    if found is None:
        metadata.create_all(connection)
        connection.exec_driver_sql(_VERSION_TABLE)
        connection.execute(_STAMP, {"head": HEAD})
    elif found != HEAD:
        from understudy.storage.migrate import upgrade

        upgrade(connection)


def schema_version(connection: Connection) -> str | None:
    """The schema version: None where there is no schema, empty before the first migration."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found or ""


_VERSION_TABLE = (
    "CREATE TABLE alembic_version ("
    " version_num VARCHAR(32) NOT NULL,"
    " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num) )"
)
_STAMP = text("INSERT INTO alembic_version VALUES (:head)")
