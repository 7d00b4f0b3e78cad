"""Background work beside the replies: trace export, and retention of the ledger."""

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
_PRUNE_EVERY_S = 6 * 3600.0
_ASK_EVERY_S = 60.0
"""How often a process asks whether the deletion has become its work."""


@asynccontextmanager
async def tracing(settings: Telemetry, observers: list[AttemptObserver]) -> AsyncGenerator[None]:
    """Export traces where that is enabled. Raises ConfigError where a package is missing."""
    if not settings.enabled:
        yield
        return
    async with open_traces(settings, version("understudy-bot")) as traces:
        observers.append(traces)
        yield


@asynccontextmanager
async def ledger_retention(
    settings: Callable[[], Settings],
    ledger: LedgerWriter,
    wall: Callable[[], float],
    does_upkeep: Callable[[], bool],
) -> AsyncGenerator[None]:
    """Delete ledger rows older than `storage.usage_days`, at start and every six hours, in the
    process that does the upkeep."""
    pruning = _prune_ledger(settings, ledger, wall, does_upkeep)
    task = asyncio.create_task(pruning, name="ledger retention")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _prune_ledger(
    settings: Callable[[], Settings],
    ledger: LedgerWriter,
    wall: Callable[[], float],
    does_upkeep: Callable[[], bool],
) -> None:
    while True:
        if not does_upkeep():
            await asyncio.sleep(_ASK_EVERY_S)
            continue
        try:
            await ledger.prune(wall() - settings().storage.usage_days * DAY_S)
        except StorageError:
            _log.warning("ledger.not_pruned")
        await asyncio.sleep(_PRUNE_EVERY_S)
