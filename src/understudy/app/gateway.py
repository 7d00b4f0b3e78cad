"""The gateway over a bot's model servers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from starlette.types import Receive, Scope, Send

from understudy.app.bot import Bot
from understudy.app.file_limits import open_files, shares
from understudy.config.load import Config
from understudy.config.settings import Gateway as GatewaySettings
from understudy.conversation.dependencies import new_id
from understudy.gateway.app import Gateway, Source
from understudy.gateway.rate_limits import KeyLimits
from understudy.http_server.connection import ClientLimits
from understudy.http_server.server import WebServer

_log = structlog.get_logger()


class _GatewayInForce:
    """Each request meets the gateway of the configuration in force when it came."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._limits = KeyLimits()
        self._made: tuple[Config, Gateway] | None = None
        bot.observers.append(self._limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.current()(scope, receive, send)

    def current(self) -> Gateway:
        if self._made is None or self._made[0] is not self._bot.config:
            self._made = (self._bot.config, self._gateway())
        return self._made[1]

    def _gateway(self) -> Gateway:
        names = [c.name.rstrip("/") for c in self._bot.models.router.candidates if c.off is None]
        source = Source(self._bot.prompts.reply, tuple(names), self._bot.guard.may_spend)
        settings = within_open_files(self._bot.settings().gateway, open_files())
        return Gateway(settings, source, self._limits, new_id=new_id)


def within_open_files(settings: GatewaySettings, files: int) -> GatewaySettings:
    """With no more requests at a time than there are files for."""
    most = shares(files).requests
    if settings.max_requests <= most:
        return settings
    _log.warning("gateway.few_files", max_requests=most, open_files=files)
    return settings.model_copy(update={"max_requests": most})


@asynccontextmanager
async def gateway(bot: Bot) -> AsyncGenerator[str]:
    """Serve the gateway; yields its base URL. Raises ConfigError."""
    settings = bot.settings().gateway
    in_force = _GatewayInForce(bot)
    in_force.current()
    limits = ClientLimits(connections=shares(open_files()).clients)
    async with WebServer(
        in_force, settings.host, settings.port, setting="gateway.port", limits=limits
    ) as server:
        yield f"{server.url}/v1"
