"""The bot's presence: shows whether any model server is available."""

import asyncio
from collections.abc import Awaitable, Callable

import discord

from understudy.routing.records import OfflineReason

AWAY = "No model is available"

_OUTAGES = frozenset(
    (
        OfflineReason.ALL_DOWN,
        OfflineReason.ALL_RATE_LIMITED,
        OfflineReason.DEADLINE,
        OfflineReason.CONFIG,
    )
)


class Presence:
    """Updated as replies end; sent only on changes, because Discord limits updates."""

    def __init__(self) -> None:
        self._away = False
        self._changed = asyncio.Event()

    def ended(self, reason: OfflineReason | None) -> None:
        """A reply ended: `reason` is None when it was an answer."""
        away = reason in _OUTAGES
        if away != self._away:
            self._away = away
            self._changed.set()

    async def run(self, show: Callable[["Presence"], Awaitable[None]]) -> None:
        """Call `show` at once if the bot is away, and at each change, until cancelled."""
        if self._away:
            self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            await show(self)

    @property
    def status(self) -> discord.Status:
        return discord.Status.idle if self._away else discord.Status.online

    @property
    def activity(self) -> discord.CustomActivity | None:
        return discord.CustomActivity(AWAY) if self._away else None
