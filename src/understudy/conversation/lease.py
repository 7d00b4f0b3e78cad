"""Holding a batch: the lease is renewed while its reply is made, and asked before each send."""

import asyncio
from collections.abc import Callable

import structlog

from understudy.conversation.inbox import LEASE_S, RENEW_EVERY_S, InboxStore
from understudy.errors import StorageError

_log = structlog.get_logger()
_SURE_S = 5.0
"""With less left than this, the store is asked before a send."""


class Lease:
    def __init__(
        self, store: InboxStore, batch_id: str, until: float, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._batch_id = batch_id
        self._until = until
        self._now = now

    async def keep(self) -> None:
        """Renew until cancelled; returns once the batch is lost to another process."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            if not await self._renew():
                return

    async def holds(self) -> bool:
        """Whether something may be sent now."""
        if self._until - self._now() > _SURE_S:
            return True
        return await self._renew()

    async def _renew(self) -> bool:
        until = self._now() + LEASE_S
        try:
            held = await self._store.renew(self._batch_id, until)
        except StorageError:
            # A busy database is no loss yet: the lease says how long it is still ours.
            _log.warning("lease.not_renewed", batch=self._batch_id)
            return self._until > self._now()
        if held:
            self._until = until
        return held
