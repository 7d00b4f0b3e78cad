"""Work that one instance of all does: each role is a row with an owner and a lease.

The owner renews it each second. When the owner dies, `coordination` deletes the row and another
instance gets the role with its next refresh; when the owner hangs, its lease runs out first.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy import Connection, and_, delete, or_
from sqlalchemy.dialects.postgresql import insert

from understudy.errors import StorageError
from understudy.storage.coordination import Coordinator
from understudy.storage.database import Database
from understudy.storage.shared_tables import roles

LEASE_S = 10.0
_CHECK_S = 0.5
_log = structlog.get_logger()


class Role:
    """One role of this instance: held or not. Register `refresh` with the coordinator."""

    def __init__(self, name: str, database: Database, coordinator: Coordinator) -> None:
        self.name = name
        self.changed = asyncio.Event()
        """Set whenever `held` changes; whoever waits for it clears it."""
        self.until = 0.0
        self._database = database
        self._coordinator = coordinator

    @property
    def held(self) -> bool:
        """Whether this instance has the role; False as soon as the lease has run out."""
        return self._coordinator.clock.now() < self.until

    async def refresh(self) -> None:
        """Acquire or renew the role. Raises StorageError."""
        before = self.held
        self.until = await self._database.write(self._acquire)
        if self.held != before:
            self.changed.set()

    async def release(self) -> None:
        self.until = 0.0
        mine = and_(roles.c.name == self.name, roles.c.owner == self._coordinator.id)
        await self._database.write(lambda on: on.execute(delete(roles).where(mine)))
        self._coordinator.notify()

    def _acquire(self, connection: Connection) -> float:
        now, owner = self._coordinator.clock.now(), self._coordinator.id
        row = {"name": self.name, "owner": owner, "until": now + LEASE_S}
        free = or_(roles.c.owner == owner, roles.c.until <= now)
        statement = (
            insert(roles)
            .values(row)
            .on_conflict_do_update(
                index_elements=["name"], set_={"owner": owner, "until": now + LEASE_S}, where=free
            )
            .returning(roles.c.until)
        )
        until: float | None = connection.execute(statement).scalar_one_or_none()
        return 0.0 if until is None else until


@asynccontextmanager
async def holding(role: Role, coordinator: Coordinator) -> AsyncGenerator[None]:
    """Acquire the role as soon as it is free, and keep it until exit."""
    coordinator.refreshers.append(role.refresh)
    try:
        with suppress(StorageError):
            await role.refresh()
        yield
    finally:
        coordinator.refreshers.remove(role.refresh)
        with suppress(StorageError):
            await role.release()


async def run_with_role(
    role: Role, coordinator: Coordinator, work: Callable[[], Coroutine[object, object, None]]
) -> None:
    """Run `work` while this instance has the role; cancel it when the role is lost.

    The role is given up only after `work` has ended. Raises what `work` raises.
    """
    async with holding(role, coordinator):
        while True:
            await _held(role)
            _log.info("role.acquired", role=role.name)
            await _run_while_held(role, work)
            _log.warning("role.lost", role=role.name)


async def _held(role: Role) -> None:
    while not role.held:
        role.changed.clear()
        await role.changed.wait()


async def _run_while_held(role: Role, work: Callable[[], Coroutine[object, object, None]]) -> None:
    running = asyncio.create_task(work(), name=role.name)
    try:
        while role.held and not running.done():
            await asyncio.wait({running}, timeout=_CHECK_S)
        if running.done():
            running.result()
    finally:
        running.cancel()
        await asyncio.wait({running})
