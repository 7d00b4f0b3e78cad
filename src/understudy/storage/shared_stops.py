"""Stops replies that another process of the database writes."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.postgresql import insert

from understudy.storage.coordination import Coordinator
from understudy.storage.database import Database
from understudy.storage.shared_tables import stops

_KEPT_S = 60.0
"""Longer than a process needs to read its stops, also one that was stopped or cut off."""


class SharedStops:
    """Opened with `open_stops`."""

    def __init__(
        self,
        database: Database,
        coordinator: Coordinator,
        running: Callable[[], Collection[str]],
        stop: Callable[[str], object],
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._running = running
        self._stop = stop

    async def ask(self, reply_id: str) -> None:
        """Let the process that writes this reply stop it. Raises StorageError."""
        await self._database.write(lambda on: self._ask(on, reply_id))
        self._coordinator.notify()

    async def refresh(self) -> None:
        """Stop the replies of this process that another one wants stopped. Raises StorageError."""
        running = tuple(self._running())
        if not running:
            return
        chosen = select(stops.c.reply_id).where(stops.c.reply_id.in_(running))
        for reply_id in await self._database.read(lambda on: on.scalars(chosen).all()):
            self._stop(reply_id)

    def _ask(self, connection: Connection, reply_id: str) -> None:
        now = self._coordinator.clock.now()
        row = insert(stops).values(reply_id=reply_id, asked_at=now)
        connection.execute(row.on_conflict_do_nothing())
        connection.execute(delete(stops).where(stops.c.asked_at < now - _KEPT_S))


@asynccontextmanager
async def open_stops(
    database: Database,
    coordinator: Coordinator,
    running: Callable[[], Collection[str]],
    stop: Callable[[str], object],
) -> AsyncGenerator[SharedStops]:
    """`running` names the replies that this process writes; `stop` stops one of them."""
    shared = SharedStops(database, coordinator, running, stop)
    coordinator.refreshers.append(shared.refresh)
    try:
        yield shared
    finally:
        coordinator.refreshers.remove(shared.refresh)
