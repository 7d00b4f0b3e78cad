"""Quotas that the processes of one database share: one row per scope and window of time."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy import Connection, delete
from sqlalchemy.dialects.postgresql import insert

from understudy.errors import StorageError
from understudy.routing.quotas import Charge
from understudy.storage.coordination import Coordinator
from understudy.storage.database import Database
from understudy.storage.shared_tables import quotas

_log = structlog.get_logger()
_RETRY_S = 1.0
_KEPT_S = 86_400.0


class SharedQuotas:
    """Implements `QuotaStore`. Opened with `open_quotas`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._corrections: list[Charge] = []
        self._changed = asyncio.Event()
        self._flushing = asyncio.Lock()

    async def reserve(self, charges: Sequence[Charge]) -> Charge | tuple[float, ...]:
        def work(connection: Connection) -> Charge | tuple[float, ...]:
            totals: dict[Charge, float] = {}
            # In one order everywhere, so that two processes do not wait for each other.
            for charge in sorted(charges, key=_order):
                total = _add(connection, charge)
                if total is None:
                    connection.rollback()
                    return charge
                totals[charge] = total
            return tuple(totals[charge] for charge in charges)

        # Returned reservations are room for this one.
        await self.flush()
        return await self._database.write(work)

    def settle(self, corrections: Sequence[Charge]) -> None:
        self._corrections += corrections
        self._changed.set()

    async def seed(self, used: Sequence[Charge]) -> None:
        """Store what was used before the rows existed; existing rows do not change."""

        def work(connection: Connection) -> None:
            for charge in used:
                connection.execute(insert(quotas).values(_row(charge)).on_conflict_do_nothing())

        await self._database.write(work)

    async def prune(self, now: float) -> None:
        """Delete windows that ended long ago. Raises StorageError."""
        old = delete(quotas).where(quotas.c.ends_at < now - _KEPT_S)
        await self._database.write(lambda on: on.execute(old))

    async def run(self) -> None:
        """Write corrections until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.flush()
            except StorageError as error:
                _log.warning("storage.refused", error=str(error), again_in_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)
                self._changed.set()

    async def flush(self) -> None:
        """Write the corrections. Raises StorageError; then they wait for the next call."""
        async with self._flushing:
            await self._write_corrections()

    async def _write_corrections(self) -> None:
        corrections, self._corrections = self._corrections, []

        def work(connection: Connection) -> None:
            for correction in sorted(corrections, key=_order):
                _add(connection, correction)

        try:
            if corrections:
                await self._database.write(work)
        except StorageError:
            self._corrections = corrections + self._corrections
            raise


@asynccontextmanager
async def open_quotas(database: Database, coordinator: Coordinator) -> AsyncGenerator[SharedQuotas]:
    """Raises StorageError."""
    shared = SharedQuotas(database)
    await shared.prune(coordinator.clock.now())
    task = asyncio.create_task(shared.run(), name="settle quotas")
    try:
        yield shared
    finally:
        task.cancel()
        await asyncio.wait({task})
        with suppress(StorageError):
            await shared.flush()


def _add(connection: Connection, charge: Charge) -> float | None:
    """Add to a row, and return its total; None where its limit is reached already."""
    statement = insert(quotas).values(_row(charge))
    below = None if charge.limit is None else quotas.c.used < charge.limit
    upsert = statement.on_conflict_do_update(
        index_elements=["scope", "window"],
        set_={"used": quotas.c.used + statement.excluded.used},
        where=below,
    ).returning(quotas.c.used)
    total: float | None = connection.execute(upsert).scalar_one_or_none()
    return total


def _row(charge: Charge) -> dict[str, object]:
    return {
        "scope": charge.scope,
        "window": charge.window,
        "used": charge.amount,
        "ends_at": charge.ends_at,
    }


def _order(charge: Charge) -> tuple[str, str]:
    return charge.scope, charge.window
