"""Asking a database again that is busy or full for a while."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import TypeVar

import structlog

from understudy.errors import StorageError

T = TypeVar("T")

_LOG = structlog.get_logger()
_FIRST_PAUSES_S = (0.2, 1.0, 4.0)
_PAUSE_S = 5.0


async def retry_storage(call: Callable[[], Awaitable[T]], limit_s: float) -> T:
    """Make a call of a store until it succeeds. Raises its StorageError after `limit_s`."""
    clock = asyncio.get_running_loop().time
    began = clock()
    for pause_s in chain(_FIRST_PAUSES_S, repeat(_PAUSE_S)):
        try:
            return await call()
        except StorageError as error:
            if clock() - began + pause_s > limit_s:
                raise
            _LOG.warning("storage.refused", error=str(error), again_in_s=pause_s)
        await asyncio.sleep(pause_s)
    raise AssertionError("the pauses never end")
