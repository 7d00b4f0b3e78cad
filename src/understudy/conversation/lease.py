"""The lease of a claimed batch: renewed while its reply is made, checked before each send."""

import asyncio
from collections.abc import Callable

import structlog

from understudy.conversation.inbox import LEASE_S, RENEW_EVERY_S, InboxStore
from understudy.errors import StorageError

_log = structlog.get_logger()
_SAFE_MARGIN_S = 5.0
"""With less time left than this, the store is asked before a send."""


class Lease:
    def __init__(
        self, store: InboxStore, batch_id: str, until: float, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._batch_id = batch_id
        self._until = until
        self._now = now

    async def renew_until_lost(self) -> None:
        """Renew until cancelled; returns once another process has claimed the batch."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            if not await self._renew():
                return

    async def is_held(self) -> bool:
        """Whether this process may send now."""
        if self._until - self._now() > _SAFE_MARGIN_S:
            return True
        return await self._renew()

    async def _renew(self) -> bool:
        until = self._now() + LEASE_S
        try:
            held = await self._store.renew(self._batch_id, until)
        except StorageError:
            # A busy database does not end the lease; its expiry does.
            _log.warning("lease.not_renewed", batch=self._batch_id)
            return self._until > self._now()
        if held:
            self._until = until
        return held
