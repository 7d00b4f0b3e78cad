"""The database on a PostgreSQL server, shared by processes of any number of machines."""

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ClassVar, TypeVar

from psycopg import Connection as PsycopgConnection
from psycopg import Error as DriverError
from psycopg import OperationalError
from psycopg.abc import Buffer
from psycopg.types.string import StrDumper
from sqlalchemy import (
    URL,
    BigInteger,
    BindParameter,
    Connection,
    Engine,
    bindparam,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from understudy.conversation.inbox import Channel
from understudy.errors import StorageError
from understudy.storage.database import Database, channel_key, upgrade_schema

R = TypeVar("R")

_THREADS = 8
_CONNECT_S = 5
_RETRY_FOR_S = 10.0
"""Shorter than a lease, so that a claim outlives a restart of the server."""
_BACKOFF_S = (0.05, 1.0)
_OLDEST_VERSION = 14
_RETRIABLE = frozenset(("40001", "40P01", "53300", "57P01", "57P02", "57P03"))
"""Serialization failure, deadlock, too many connections, and the server's shutdown or start."""
_MIGRATION_KEY = 0x756E6465727374
"""The advisory lock under which one process at a time changes the schema."""

_key: BindParameter[int] = bindparam("key", type_=BigInteger)
_LOCK = select(func.pg_advisory_xact_lock(_key))


class PostgresDatabase(Database):
    """A pool of connections, used from threads."""

    is_shared: ClassVar[bool] = True

    def __init__(self, url: URL, engine: Engine, retry_for_s: float) -> None:
        self.url = url
        self.name = url.render_as_string(hide_password=True)
        self._retry_for_s = retry_for_s
        self._engine = engine
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")
        self._closing = threading.Event()

    @property
    def libpq_url(self) -> str:
        """For a connection without SQLAlchemy; holds the password."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    @staticmethod
    def connect(url: URL, retry_for_s: float = _RETRY_FOR_S) -> "PostgresDatabase":
        """Without a look at the schema; the first statement connects."""
        engine = create_engine(
            url,
            pool_size=_THREADS,
            max_overflow=0,
            # `_write` switches it off for a transaction.
            isolation_level="AUTOCOMMIT",
            # `_write` ends every transaction, so the pool has none to roll back.
            pool_reset_on_return=None,
            use_native_hstore=False,
            connect_args={"connect_timeout": _CONNECT_S, "application_name": "understudy"},
        )
        event.listen(engine, "connect", _configure)
        return PostgresDatabase(url, engine, retry_for_s)

    @staticmethod
    async def open_url(url: URL) -> "PostgresDatabase":
        """Connect, and bring the schema up to date under an advisory lock."""
        database = PostgresDatabase.connect(url)
        try:
            await database.write(_prepare)
        except BaseException:
            await database.aclose()
            raise
        return database

    async def aclose(self) -> None:
        self._closing.set()
        await asyncio.to_thread(self._close)

    async def read(self, work: Callable[[Connection], R]) -> R:
        return await self._run(self._threads, lambda: self._retry(lambda: self._read(work)))

    async def write(self, work: Callable[[Connection], R]) -> R:
        return await self._run(self._threads, lambda: self._retry(lambda: self._write(work)))

    async def write_one(self, work: Callable[[Connection], R]) -> R:
        # Without BEGIN and COMMIT it is one round trip instead of three.
        return await self.read(work)

    async def scrub(self) -> None:
        """Does nothing: the server's vacuum and its operator decide when old rows are removed."""

    def lock_channel(self, connection: Connection, channel: Channel) -> None:
        connection.execute(_LOCK, {"key": channel_key(channel)})

    def _read(self, work: Callable[[Connection], R]) -> R:
        with self._engine.connect() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], R]) -> R:
        with self._engine.connect() as connection, _transaction(connection):
            done = work(connection)
            try:
                connection.commit()
            except DBAPIError as error:
                # The server may have committed, so the work must not run again.
                raise StorageError(
                    f"the database {self.name} did not confirm a commit: {error.orig}"
                ) from error
            return done

    def _retry(self, work: Callable[[], R]) -> R:
        """Run `work` until it succeeds, fails for good, or the time for retries is over."""
        until, pause_s = time.monotonic() + self._retry_for_s, _BACKOFF_S[0]
        while True:
            try:
                return work()
            except DBAPIError as error:
                over = time.monotonic() + pause_s > until
                if not _may_pass(error) or over or self._closing.wait(pause_s):
                    raise StorageError(
                        f"the database {self.name} cannot be used: {error.orig}"
                    ) from error
            pause_s = min(2 * pause_s, _BACKOFF_S[1])

    def _close(self) -> None:
        self._threads.shutdown()
        self._engine.dispose()


@contextmanager
def _transaction(connection: Connection) -> Generator[None]:
    """Let the driver begin a transaction with the first statement; rolls back what is not
    committed."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, PsycopgConnection)
    driver.autocommit = False
    try:
        yield
    finally:
        try:
            driver.rollback()
            driver.autocommit = True
        except DriverError:
            # It is broken; back in the pool, the next work would never be committed.
            connection.invalidate()


class _TextDumper(StrDumper):
    """Replaces NUL, which PostgreSQL's text cannot hold and SQLite's can."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", "\ufffd"))


def _configure(connection: DBAPIConnection, _record: object) -> None:
    assert isinstance(connection, PsycopgConnection)
    connection.adapters.register_dumper(str, _TextDumper)


def _prepare(connection: Connection) -> None:
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000
    if version < _OLDEST_VERSION:
        raise StorageError(f"PostgreSQL {version} is too old: use {_OLDEST_VERSION} or newer")
    connection.execute(_LOCK, {"key": _MIGRATION_KEY})
    upgrade_schema(connection)


def _may_pass(error: DBAPIError) -> bool:
    """Whether the same work can succeed later."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        # libpq reports connections that fail or break without a code of the server.
        return isinstance(error.orig, OperationalError)
    return state in _RETRIABLE
