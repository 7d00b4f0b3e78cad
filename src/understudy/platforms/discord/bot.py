"""The bot on Discord: keeps a client connected and opens deliveries through it."""

import asyncio
import logging
import random
from contextlib import suppress

import aiohttp
import discord
import structlog

from understudy.config.settings import Discord
from understudy.conversation.delivery import OpenDelivery
from understudy.conversation.follow_ups import Answered
from understudy.errors import ConfigError
from understudy.memory.store import Proposal
from understudy.platforms.discord import proposals
from understudy.platforms.discord.admin_alerts import AdminAlerts
from understudy.platforms.discord.client import DiscordClient, Parts
from understudy.platforms.discord.context import DiscordContext
from understudy.platforms.discord.delivery import Deliveries
from understudy.platforms.discord.inbound import PLATFORM
from understudy.platforms.discord.invite import BAD_TOKEN, NO_CONTENT_INTENT
from understudy.platforms.discord.message_cache import MessageCache

_log = structlog.get_logger()

_CONNECT_LIMIT_S = 30.0
_LONGEST_PAUSE_S = 300.0
_FATAL_CLOSES = {
    4004: BAD_TOKEN,
    4010: "Discord refused the shard number. This is a bug in understudy; please report it.",
    4011: "Discord requires more shards for this bot; start it again.",
    4012: "Discord no longer supports this gateway version; update understudy.",
    4013: "Discord does not know a requested intent; update understudy.",
    4014: NO_CONTENT_INTENT,
}


class DiscordBot:
    """`open` is registered with the message router; `run` runs until cancelled."""

    def __init__(self, parts: Parts, token: str) -> None:
        self._parts = parts
        self._token = token
        self._client: DiscordClient | None = None
        self._up = asyncio.Event()
        self._running = False
        self._cache = MessageCache()
        self.context = DiscordContext(
            self.connected,
            self._cache,
            parts.settings,
            lambda user_id: (PLATFORM, str(user_id)) in parts.context.preferences.now.opted_out,
        )
        """Registered with the message router, like `open`."""
        self._admins = AdminAlerts(self.connected, lambda: self._settings().admins)
        self._deliveries = Deliveries(
            self.connected, self._settings, parts.now, parts.presence.ended
        )
        # At debug level discord.py logs the bodies of requests: what people wrote, and the token.
        logging.getLogger("discord").setLevel(logging.WARNING)
        # The bot does not speak, so it needs no advice on libraries for voice.
        discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False

    @property
    def open(self) -> OpenDelivery:
        return self._deliveries.open

    def notify_admins(self, text: str) -> None:
        """Send a text to each of `discord.admins`, once the bot is online."""
        self._admins.enqueue(text)

    async def propose(self, proposal: Proposal, answered: Answered) -> None:
        """Ask the person whether a proposed note may be stored."""
        await proposals.ask(self.connected, proposal, answered)

    async def connected(self) -> discord.Client:
        """The client, once it is logged in; raises TimeoutError."""
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            await self._up.wait()
        assert self._client is not None
        return self._client

    def state(self) -> str:
        """The state of the connection, in words for the operator."""
        if not self._running:
            return "not connected by this process: another one has the connection, or it ended"
        client = self._client
        if client is None or not self._up.is_set() or not client.is_ready():
            return "connecting"
        servers = f"{len(client.guilds)} server{'' if len(client.guilds) == 1 else 's'}"
        return f"connected as {client.user}, in {servers}"

    async def run(self) -> None:
        """Stay connected. Raises ConfigError when only the operator can fix the cause.

        discord.py restores lost connections itself, but gives up when the first one fails or an
        event cannot be parsed; then a new client is created.
        """
        alerting = asyncio.create_task(self._admins.run())
        self._running = True
        try:
            await self._reconnect_forever()
        finally:
            self._running = False
            alerting.cancel()
            await asyncio.wait({alerting})

    async def _reconnect_forever(self) -> None:
        pause_s = self._parts.pace.restart_s
        while True:
            started = asyncio.get_running_loop().time()
            await self._run_logged()
            if asyncio.get_running_loop().time() - started > _LONGEST_PAUSE_S:
                pause_s = self._parts.pace.restart_s
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _run_logged(self) -> None:
        """Run one client, and log why it ended. Raises ConfigError."""
        try:
            await self._run_once()
        except discord.LoginFailure:
            raise ConfigError(self._explanation(4004)) from None
        except discord.PrivilegedIntentsRequired:
            raise ConfigError(self._explanation(4014)) from None
        except discord.ConnectionClosed as closed:
            if closed.code in _FATAL_CLOSES:
                raise ConfigError(self._explanation(closed.code)) from None
            _log.warning("discord.closed", code=closed.code)
        except (aiohttp.ClientError, OSError, discord.HTTPException) as error:
            reason = "Discord cannot be reached; the bot tries again until it can"
            _log.warning("discord.unreachable", reason=reason, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the root of this task
            # One malformed event must not end the bot.
            _log.exception("discord.client_ended", error=type(error).__name__)

    async def _run_once(self) -> None:
        client = DiscordClient(self._parts, self._logged_in, self._cache)
        async with client:
            running = asyncio.create_task(client.start(self._token))
            try:
                await asyncio.wait({running})
            finally:
                self._up.clear()
                # While reconnecting, discord.py swallows a cancellation and continues to wait;
                # only a closed client ends.
                with suppress(aiohttp.ClientError):
                    await client.close()
                running.cancel()
                await asyncio.wait({running})
            running.result()

    def _logged_in(self, client: discord.Client) -> None:
        assert isinstance(client, DiscordClient)
        self._client = client
        self._up.set()

    def _settings(self) -> Discord:
        return self._parts.settings().discord

    def _explanation(self, code: int) -> str:
        return _FATAL_CLOSES[code].format(name=self._settings().token_env)
