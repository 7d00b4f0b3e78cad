"""The gateway over a bot's model servers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope, Send

from understudy.app.bot import Bot
from understudy.config.load import Config
from understudy.conversation.surroundings import new_id
from understudy.gateway.asgi import Gateway, Source
from understudy.gateway.limits import KeyLimits
from understudy.platforms.web.serve import WebServer


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
        return Gateway(self._bot.settings().gateway, source, self._limits, new_id=new_id)


@asynccontextmanager
async def gateway(bot: Bot) -> AsyncGenerator[str]:
    """Serve the gateway; yields its base URL. Raises ConfigError."""
    settings = bot.settings().gateway
    in_force = _GatewayInForce(bot)
    in_force.current()
    async with WebServer(in_force, settings.host, settings.port, setting="gateway.port") as server:
        yield f"{server.url}/v1"
