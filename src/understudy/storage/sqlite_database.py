"""The database in one SQLite file, shared by the processes of one machine."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from understudy.conversation.inbox import Channel
from understudy.errors import StorageError
from understudy.storage.database import Database, upgrade_schema

R = TypeVar("R")

# For a value that is no number and no text, the driver looks for an adapter, and formats an error
# for each one that it does not find; a row of the ledger has many empty columns. These change
# nothing, without Python code.
sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type]
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)

_BUSY_S = 10
_SCRUB_MS = 500
_READERS = 3
_MAPPED = 2**30
_PRAGMAS: tuple[str, ...] = (
    "PRAGMA journal_mode = WAL",
    # Survives a crash of the process; only a power cut can lose the last transactions.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {_BUSY_S * 1000}",
    # With many messages each one touches pages all over the file; reading them through memory
    # spares a system call and a copy for each.
    f"PRAGMA mmap_size = {_MAPPED}",
    # Deleted text is overwritten, not only unlinked.
    "PRAGMA secure_delete = ON",
)


class SqliteDatabase(Database):
    """One file in write-ahead mode, with one writing thread and a few reading ones."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self.name = str(path)
        self._engine = engine
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="database-read")
        # SQLite allows one writer at a time; a queue is fairer and cheaper than its busy loop.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="database-write")

    @staticmethod
    async def open_file(path: Path) -> "SqliteDatabase":
        """Open the file with the newest schema; a new file gets mode 0600."""
        await asyncio.to_thread(_create_private, path)
        engine = create_engine(
            f"sqlite:///{path}",
            creator=lambda: _connect(path),
            pool_size=_READERS + 1,
            max_overflow=0,
            # `_write` ends every transaction, so the pool has none to roll back.
            pool_reset_on_return=None,
        )
        database = SqliteDatabase(path, engine)
        try:
            await database.write(upgrade_schema)
        except BaseException:
            await database.aclose()
            raise
        return database

    async def aclose(self) -> None:
        await asyncio.to_thread(self._close)

    async def read(self, work: Callable[[Connection], R]) -> R:
        return await self._run(self._readers, lambda: self._read(work))

    async def write(self, work: Callable[[Connection], R]) -> R:
        return await self._run(self._writer, lambda: self._write(work))

    async def scrub(self) -> None:
        """Remove overwritten text from the write-ahead log, which holds it until a checkpoint.

        Does nothing while a reader holds the log.
        """
        await self._run(self._writer, self._scrub)

    def lock_channel(self, connection: Connection, channel: Channel) -> None:
        """Does nothing: a write transaction excludes all others."""

    def _read(self, work: Callable[[Connection], R]) -> R:
        with _storage_errors(self.path), self._engine.connect() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], R]) -> R:
        with _storage_errors(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                done = work(connection)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
            return done

    def _scrub(self) -> None:
        with _storage_errors(self.path), self._engine.connect() as connection:
            # Writers queue behind this statement, so it must not wait for a long backup.
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_SCRUB_MS}")
            try:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_S * 1000}")

    def _close(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        self._engine.dispose()


def _connect(path: Path) -> sqlite3.Connection:
    # `_write` begins transactions: the driver begins them late, and never with IMMEDIATE.
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _create_private(path: Path) -> None:
    """Create the file with mode 0600; SQLite gives its companion files the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StorageError(
            f"cannot open the database {path}: {error.strerror}; "
            "make its folder writable or set storage.url"
        ) from None


@contextmanager
def _storage_errors(path: Path) -> Generator[None]:
    try:
        yield
    except DBAPIError as error:
        raise StorageError(f"the database {path} cannot be used: {_advice(error.orig)}") from error


def _advice(error: BaseException | None) -> str:
    message = str(error)
    if "not a database" in message or "malformed" in message:
        return f"{message}; move it away to start with a new one, or restore a backup"
    if "locked" in message:
        return f"{message}; another program has locked it"
    if "full" in message:
        return f"{message}; make room on the disk"
    return message
