"""The one loop that repeats a call after a temporary failure."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import chain, repeat
from math import inf
from typing import TypeVar

import structlog

from understudy.errors import StorageError

T = TypeVar("T")

_log = structlog.get_logger()
_STORAGE_PAUSES_S = (0.2, 1.0, 4.0)
_STORAGE_PAUSE_S = 5.0


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    on: tuple[type[Exception], ...],
    pauses_s: Iterable[float],
    report: Callable[[Exception, float], None],
    limit_s: float = inf,
) -> T:
    """Repeat `call` while it raises one of `on`, with a pause before each repetition.

    Raises the last error when the pauses are used up, or when the next pause would end after
    `limit_s`. `report` receives each error that is retried and the pause in seconds.
    """
    now = asyncio.get_running_loop().time
    started = now()
    for pause_s in pauses_s:
        try:
            return await call()
        except on as error:
            if now() - started + pause_s > limit_s:
                raise
            report(error, pause_s)
        await asyncio.sleep(pause_s)
    return await call()


async def retry_storage(call: Callable[[], Awaitable[T]], limit_s: float) -> T:
    """Repeat a call of a store that is busy or full. Raises its StorageError after `limit_s`."""
    return await retry(
        call,
        on=(StorageError,),
        pauses_s=chain(_STORAGE_PAUSES_S, repeat(_STORAGE_PAUSE_S)),
        report=_report_storage,
        limit_s=limit_s,
    )


def _report_storage(error: Exception, pause_s: float) -> None:
    _log.warning("storage.refused", error=str(error), again_in_s=pause_s)
