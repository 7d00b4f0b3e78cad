"""The database file: opening it safely, bringing its schema up to date, and its transactions."""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from understudy.errors import StorageError
from understudy.storage.driver import Connection
from understudy.storage.tables import HEAD, metadata

_BUSY_S = 10
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # Survives a crash of the process; only a power cut can take the last moments.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {_BUSY_S * 1000}",
    # Forgotten texts are overwritten, not only unlinked.
    "PRAGMA secure_delete = ON",
)


def database_path(url: str) -> Path:
    """The file behind a `storage.url`; raises StorageError for what is no SQLite file."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError("storage.url: write it as sqlite:///understudy.db") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database or ":memory:" in url:
        raise StorageError("storage.url: write a SQLite file, such as sqlite:///understudy.db")
    return Path(parsed.database)


class Database:
    """One process's way to the database. Opened with `open`, closed with `aclose`."""

    def __init__(self, path: Path, engine: AsyncEngine) -> None:
        self.path = path
        self._engine = engine
        # SQLite has one writer at a time; waiting here is fairer and cheaper than its busy loop.
        self._writing = asyncio.Lock()

    @staticmethod
    async def open(path: Path) -> "Database":
        """Open the file, made for its owner alone where it is new, with the newest schema.

        Raises StorageError with what to do about it.
        """
        await asyncio.to_thread(_make_private, path)
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{path}",
            connect_args={
                "async_creator_fn": lambda *_, **__: Connection(str(path), _PRAGMAS, _BUSY_S)
            },
            pool_size=4,
            max_overflow=0,
            # Every transaction is ended here, so none needs to be on the way back to the pool.
            pool_reset_on_return=None,
        )
        database = Database(path, engine)
        try:
            await database._bring_up_to_date()
        except BaseException:
            await database.aclose()
            raise
        return database

    async def aclose(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        """A connection outside any transaction: each query sees what is committed by then."""
        with _storage_errors(self.path):
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[AsyncConnection]:
        """A connection in a transaction that nobody else writes beside; committed at the end,
        rolled back on any exception."""
        async with self._writing:
            with _storage_errors(self.path):
                async with self._engine.connect() as connection:
                    await connection.exec_driver_sql("BEGIN IMMEDIATE")
                    try:
                        yield connection
                        await connection.commit()
                    except BaseException:
                        await connection.rollback()
                        raise

    async def _bring_up_to_date(self) -> None:
        """Make the schema of a new file at once; only an older one needs Alembic, which is slow
        to import."""
        with _storage_errors(self.path):
            async with self._engine.connect() as connection:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
                found = await connection.run_sync(_revision)
                if found is None:
                    await connection.run_sync(metadata.create_all)
                    await connection.exec_driver_sql(_VERSION_TABLE)
                    await connection.execute(_STAMP, {"head": HEAD})
                elif found != HEAD:
                    await connection.run_sync(_migrate)
                await connection.commit()


_VERSION_TABLE = (
    "CREATE TABLE alembic_version ("
    " version_num VARCHAR(32) NOT NULL,"
    " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num) )"
)
_STAMP = text("INSERT INTO alembic_version VALUES (:head)")


def _revision(connection: SyncConnection) -> str | None:
    """The schema the file has: None where it has none, empty before the first migration."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found or ""


def _migrate(connection: SyncConnection) -> None:
    from understudy.storage.migrate import upgrade

    upgrade(connection)


def _make_private(path: Path) -> None:
    """Create the file for its owner alone; SQLite gives its companion files the same mode."""
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
    except SQLAlchemyTimeout:
        raise StorageError(f"the database {path} is overloaded") from None


def _advice(error: BaseException | None) -> str:
    said = str(error)
    if "not a database" in said or "malformed" in said:
        return f"{said}; move it away to start with a new one, or restore a backup"
    if "locked" in said:
        return f"{said}; another program holds it"
    if "full" in said:
        return f"{said}; make room on the disk"
    return said
