"""Locks that show whether an instance still runs; the system releases them however it ends."""

import asyncio
import contextlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from filelock import FileLock, Timeout
from sqlalchemy import text

from understudy.errors import StorageError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from understudy.storage.postgres_database import PostgresDatabase

_log = structlog.get_logger()


class Liveness(ABC):
    """The lock of one instance, and a check of others'."""

    @abstractmethod
    async def acquire(self) -> None:
        """Hold the lock of this instance until `aclose`. Raises StorageError."""

    @abstractmethod
    async def dead(self, instances: Iterable[str]) -> set[str]:
        """Those whose lock is free. Empty while that cannot be determined."""

    @abstractmethod
    async def aclose(self) -> None: ...


class FileLiveness(Liveness):
    """A locked file beside the SQLite database for each instance."""

    def __init__(self, database: Path, instance: str) -> None:
        self._database = database
        self._instance = instance
        self._lock = FileLock(self._path(instance), mode=0o600, thread_local=False)

    async def acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:  # pragma: no cover - the name is random
            raise StorageError(f"another process has locked {self._lock.lock_file}") from None
        except OSError as error:
            path = self._lock.lock_file
            raise StorageError(f"cannot create {path}: {error.strerror}") from None

    async def dead(self, instances: Iterable[str]) -> set[str]:
        return {name for name in instances if name != self._instance and self._is_dead(name)}

    async def aclose(self) -> None:
        if self._lock.is_locked:
            self._lock.release(force=True)
            self._path(self._instance).unlink(missing_ok=True)

    def _is_dead(self, instance: str) -> bool:
        path = self._path(instance)
        if not path.exists():
            return True
        lock = FileLock(path, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return False
        lock.release()
        path.unlink(missing_ok=True)
        return True

    def _path(self, instance: str) -> Path:
        return self._database.with_name(f"{self._database.name}-instance-{instance}")


_CLASS = 0x756E6473
"""The first number of the advisory locks of instances; the second one is made from the id."""
CHANNEL = "understudy"
_LISTEN_S = 1.0
_SETTLE_S = 3.0
"""After a restart of the server all locks are gone; others get this long to take theirs again."""
_BACKOFF_S = (0.05, 1.0)
_CONNECT_S = 5
_HELD = text(
    "SELECT objid::bigint FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE locktype = 'advisory' AND classid = :class AND objsubid = 2 AND granted"
    " AND datname = current_database()"
).bindparams(**{"class": _CLASS})


class PostgresLiveness(Liveness):
    """A session advisory lock on a connection that also listens for notifications.

    `notified` is called for each of them, and after each new connection, because notifications
    during a gap are lost.
    """

    def __init__(
        self, database: "PostgresDatabase", instance: str, notified: Callable[[], None]
    ) -> None:
        self._database = database
        self._instance = instance
        self._notified = notified
        self._held_since: float | None = None
        self._first = True
        self._task: asyncio.Task[None] | None = None
        self._connection: AsyncConnection | None = None

    async def acquire(self) -> None:
        if type(asyncio.get_running_loop()).__name__ == "ProactorEventLoop":
            # psycopg needs the Selector loop, which starts no child processes on Windows.
            raise StorageError("PostgreSQL is not supported on Windows; use SQLite, or WSL")
        self._connection = await self._connect()
        self._task = asyncio.create_task(self._listen(), name="database listener")

    async def dead(self, instances: Iterable[str]) -> set[str]:
        now = asyncio.get_running_loop().time()
        settled_s = 0.0 if self._first else _SETTLE_S
        if self._held_since is None or now - self._held_since < settled_s:
            return set()
        held = await self._database.read(lambda on: set(on.scalars(_HELD)))
        return {name for name in instances if _number(name) not in held}

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._connection is not None:
            await self._connection.close()

    async def _connect(self) -> "AsyncConnection":
        """A connection that holds the lock and listens. Raises StorageError."""
        import psycopg

        try:
            connection = await psycopg.AsyncConnection.connect(
                self._database.libpq_url,
                autocommit=True,
                connect_timeout=_CONNECT_S,
                application_name=f"understudy {self._instance}",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
            query = "SELECT pg_try_advisory_lock(%s, %s)"
            # An unsigned 32-bit number does not fit into int4.
            key = _number(self._instance)
            signed = key - 2**32 if key >= 2**31 else key
            await connection.execute(query, (_CLASS, signed))
            await connection.execute(f"LISTEN {CHANNEL}".encode())
        except psycopg.Error as error:
            raise StorageError(f"the database cannot be used: {error}") from error
        self._held_since = asyncio.get_running_loop().time()
        return connection

    async def _listen(self) -> None:
        from psycopg import Error

        while True:
            connection = self._connection
            try:
                if connection is not None:
                    async for _ in connection.notifies(timeout=_LISTEN_S, stop_after=1):
                        self._notified()
                    # A silent connection may be dead; the query finds out.
                    await connection.execute("SELECT 1")
                    continue
            except (Error, OSError) as error:
                _log.warning("storage.listener_lost", error=str(error))
            await self._reconnect()

    async def _reconnect(self) -> None:
        self._held_since, self._first = None, False
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.close()
            self._connection = None
        pause_s = _BACKOFF_S[0]
        while self._connection is None:
            try:
                self._connection = await self._connect()
            except StorageError:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _BACKOFF_S[1])
        self._notified()


def _number(instance: str) -> int:
    """The 32 bits that name an instance in a lock."""
    return zlib.crc32(instance.encode())
