"""What goes on beside the replies: traces sent out, and old books thrown away."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

import structlog

from understudy.clock import DAY_S
from understudy.config.settings import Settings, Telemetry
from understudy.errors import StorageError
from understudy.observability.traces import open_traces
from understudy.routing.ledger import LedgerWriter
from understudy.routing.records import AttemptObserver

_log = structlog.get_logger()
_EVERY_S = 6 * 3600.0


@asynccontextmanager
async def tracing(settings: Telemetry, observers: list[AttemptObserver]) -> AsyncGenerator[None]:
    """Send traces where that is configured. Raises ConfigError where its packages are missing."""
    if not settings.enabled:
        yield
        return
    async with open_traces(settings, version("understudy")) as traces:
        observers.append(traces)
        yield


@asynccontextmanager
async def forgetting(
    settings: Callable[[], Settings], ledger: LedgerWriter, wall: Callable[[], float]
) -> AsyncGenerator[None]:
    """Keep the ledger to `storage.usage_days`, from the start on."""
    task = asyncio.create_task(_forget(settings, ledger, wall), name="forget usage")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _forget(
    settings: Callable[[], Settings], ledger: LedgerWriter, wall: Callable[[], float]
) -> None:
    while True:
        try:
            await ledger.prune(wall() - settings().storage.usage_days * DAY_S)
        except StorageError:
            _log.warning("ledger.not_pruned")
        await asyncio.sleep(_EVERY_S)
