"""The typing indicator; its failures never affect the reply."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import discord

# Discord shows the indicator for about ten seconds.
_EVERY_S = 8.0
_CALL_LIMIT_S = 5.0
_AT_MOST_S = 180.0


class TypingIndicator:
    """Shown from `start` to `stop`; the owner calls `stop` on every path."""

    def __init__(self, send: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._repeat())

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _repeat(self) -> None:
        try:
            async with asyncio.timeout(_AT_MOST_S):
                while True:
                    await self._send_once()
                    await asyncio.sleep(_EVERY_S)
        except TimeoutError:
            return

    async def _send_once(self) -> None:
        try:
            async with asyncio.timeout(_CALL_LIMIT_S):
                await self._send()
        except (discord.DiscordException, aiohttp.ClientError, OSError, RuntimeError):
            # No permission, a rate limit, or a closing connection: without an indicator.
            return
