"""How the processes that share a database know of each other: identity, heartbeat, wake-up.

Each start gets a random id, so that no instance can be taken for an earlier one of its machine. A
lock shows that it runs; what a dead instance had claimed is free at once. Once a second, and when
another instance notifies, each runs its refreshers: that poll is what correctness relies on, and
the notification only makes it faster.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import Connection, Float, delete, func, insert, select, text, update

from understudy.conversation.inbox import BatchState
from understudy.errors import StorageError
from understudy.storage.database import Database
from understudy.storage.liveness import CHANNEL, FileLiveness, Liveness, PostgresLiveness
from understudy.storage.shared_tables import instances, roles
from understudy.storage.sqlite_database import SqliteDatabase
from understudy.storage.tables import batches

Refresher = Callable[[], Awaitable[None]]
"""Reads what other instances may have changed. May raise StorageError."""

_log = structlog.get_logger()
_EVERY_S = 1.0
_ALONE_EVERY_S = 5.0
"""On SQLite without workers, where a refresh only finds a second process that died."""
_NOTIFY_EVERY_S = 0.1
_NOTIFY = text("SELECT pg_notify(:channel, '')").bindparams(channel=CHANNEL)
_CLOCK = select(func.extract("epoch", func.clock_timestamp()).cast(Float))


class DatabaseClock:
    """Converts this process's wall clock to the database's, so that leases mean the same on
    machines whose clocks differ. On SQLite both are the same."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._anchor: tuple[float, float] | None = None

    def set(self, database_time: float) -> None:
        self._anchor = (database_time, self._monotonic())

    @property
    def offset(self) -> float:
        """Seconds to add to the wall clock of this process."""
        if self._anchor is None:
            return 0.0
        at, seen = self._anchor
        # By the monotonic clock, because somebody may set the wall clock meanwhile.
        return at + self._monotonic() - seen - self._wall()

    def now(self) -> float:
        """The database's time."""
        return self._wall() + self.offset


class Coordinator:
    """This instance among those that share its database."""

    def __init__(
        self, database: Database, config_rev: str = "", interval_s: float | None = None
    ) -> None:
        self.id = secrets.token_hex(8)
        self.clock = DatabaseClock()
        self.refreshers: list[Refresher] = []
        self._database = database
        self.config_rev = config_rev
        """Of the configuration in use; others see it with the next heartbeat."""
        self._interval_s = interval_s or (_EVERY_S if database.is_shared else _ALONE_EVERY_S)
        self._wake = asyncio.Event()
        self._liveness = self._make_liveness()
        self._pending = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Become known, and release what dead instances had claimed. Raises StorageError."""
        await self._liveness.acquire()
        await self._database.write(self._register)
        await self._release_dead()
        self._tasks = {
            asyncio.create_task(self._refresh_forever(), name="coordination"),
            asyncio.create_task(self._notify_forever(), name="notifications"),
        }

    async def aclose(self) -> None:
        """Give up every lease, and stop being known."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            await self._database.write(lambda on: _forget(on, [self.id]))
        except StorageError as error:
            _log.warning("storage.refused", error=str(error), again_in_s=0.0)
        await self._liveness.aclose()

    def notify(self) -> None:
        """Make other instances refresh soon; many calls become one notification."""
        self._pending.set()

    async def refresh(self) -> None:
        """One round: heartbeat, dead instances, refreshers. Raises StorageError."""
        await self._database.write(self._beat)
        await self._release_dead()
        await self._run_refreshers()

    async def _run_refreshers(self) -> None:
        for refresher in tuple(self.refreshers):
            await refresher()

    def _make_liveness(self) -> Liveness:
        if isinstance(self._database, SqliteDatabase):
            return FileLiveness(self._database.path, self.id)
        from understudy.storage.postgres_database import PostgresDatabase

        assert isinstance(self._database, PostgresDatabase)
        return PostgresLiveness(self._database, self.id, self._wake.set)

    def _register(self, connection: Connection) -> None:
        now = self._read_clock(connection)
        connection.execute(
            insert(instances),
            {"id": self.id, "started_at": now, "seen_at": now, "config_rev": self.config_rev},
        )

    def _beat(self, connection: Connection) -> None:
        now = self._read_clock(connection)
        mine = update(instances).where(instances.c.id == self.id)
        connection.execute(mine.values(seen_at=now, config_rev=self.config_rev))

    def _read_clock(self, connection: Connection) -> float:
        if self._database.is_shared:
            self.clock.set(connection.execute(_CLOCK).scalar_one())
        return self.clock.now()

    async def count_others(self) -> int:
        """How many other processes use the database now. Raises StorageError."""
        known = await self._known()
        return len(known) - len(await self._liveness.dead(known) if known else ())

    async def _known(self) -> list[str]:
        return await self._database.read(
            lambda on: list(on.scalars(select(instances.c.id).where(instances.c.id != self.id)))
        )

    async def _release_dead(self) -> None:
        known = await self._known()
        dead = await self._liveness.dead(known) if known else set()
        if dead:
            await self._database.write(lambda on: _forget(on, sorted(dead)))
            _log.info("instances.dead", instances=sorted(dead))

    async def _refresh_forever(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval_s
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                if loop.time() < due:
                    # A notification: the heartbeat has its own pace.
                    await self._run_refreshers()
                    continue
                due = loop.time() + self._interval_s
                await self.refresh()
            except StorageError as error:
                _log.warning("storage.refused", error=str(error), again_in_s=self._interval_s)
            except Exception as error:  # noqa: BLE001 - the root of this task
                _log.exception("coordination.failed", error=type(error).__name__)

    async def _notify_forever(self) -> None:
        while True:
            await self._pending.wait()
            self._pending.clear()
            if self._database.is_shared:
                try:
                    await self._database.write(lambda on: on.execute(_NOTIFY))
                except StorageError:
                    _log.debug("notification.lost")
            await asyncio.sleep(_NOTIFY_EVERY_S)


@asynccontextmanager
async def coordinated(
    database: Database, config_rev: str = "", interval_s: float | None = None
) -> AsyncGenerator[Coordinator]:
    """Raises StorageError."""
    coordinator = Coordinator(database, config_rev, interval_s)
    try:
        await coordinator.start()
        yield coordinator
    finally:
        await coordinator.aclose()


def _forget(connection: Connection, ids: Iterable[str]) -> None:
    """Release the leases and roles of instances that ended, and delete their rows."""
    owned = list(ids)
    held = batches.c.owner.in_(owned) & (batches.c.state == BatchState.CLAIMED)
    connection.execute(update(batches).where(held).values(lease_until=0.0))
    connection.execute(delete(roles).where(roles.c.owner.in_(owned)))
    connection.execute(delete(instances).where(instances.c.id.in_(owned)))
