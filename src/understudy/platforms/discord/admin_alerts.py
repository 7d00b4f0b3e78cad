"""Direct messages to the operator about problems that only they can fix."""

import asyncio
from collections.abc import Callable

import discord
import structlog

from understudy.platforms.discord.sender import Connected

_log = structlog.get_logger()


class AdminAlerts:
    """Queues texts, and sends each to every admin while `run` is active."""

    def __init__(self, connected: Connected, admins: Callable[[], tuple[str, ...]]) -> None:
        self._connected = connected
        self._admins = admins
        self._waiting: asyncio.Queue[str] = asyncio.Queue()

    def enqueue(self, text: str) -> None:
        """Queue a text; neither blocks nor raises."""
        self._waiting.put_nowait(text)

    async def run(self) -> None:
        """Send until cancelled. An admin who cannot be reached does not delay the others."""
        while True:
            text = await self._waiting.get()
            for admin in self._admins():
                await self._send(admin, text)

    async def _send(self, admin: str, text: str) -> None:
        try:
            client = await self._connected()
            user = await client.fetch_user(int(admin))
            await user.send(text, allowed_mentions=discord.AllowedMentions.none())
        except (discord.DiscordException, TimeoutError, OSError, ValueError, RuntimeError) as error:
            _log.warning("discord.admin_not_told", admin=admin, error=type(error).__name__)
