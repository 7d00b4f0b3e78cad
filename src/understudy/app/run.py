"""A bot with everything its configuration asks for, until it is told to stop."""

import asyncio
import gc
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from understudy.app.bot import Bot, answering, open_bot
from understudy.app.gateway import gateway
from understudy.app.reload import keeping_current
from understudy.clock import Clock
from understudy.config.load import Config
from understudy.errors import ConfigError
from understudy.observability.logs import Logs
from understudy.routing.candidates import usable_providers
from understudy.storage.database import database_path

if TYPE_CHECKING:
    from understudy.app.web import WebPage

_OBJECTS_PER_LOOK = 20_000


@dataclass(frozen=True, slots=True)
class Running:
    bot: Bot
    web: "WebPage | None"
    gateway: str | None
    """Its base URL."""
    discord: asyncio.Task[None] | None
    """Ends only when nothing but the operator can help."""


@asynccontextmanager
async def running(
    config: Config, logs: Logs, clocks: Clock | None = None
) -> AsyncGenerator[Running]:
    """Start everything, inside out; stop it the other way. Raises ConfigError, StorageError."""
    settings = config.settings
    database = database_path(settings.storage.url)
    async with AsyncExitStack() as stack:
        bot = await stack.enter_async_context(open_bot(config, logs, clocks))
        page = base_url = None
        if settings.web.enabled:
            from understudy.app.web import web_page

            token_file = database.with_name(f"{database.name}-web-token")
            page = await stack.enter_async_context(web_page(bot, token_file))
        if settings.gateway.enabled:
            base_url = await stack.enter_async_context(gateway(bot))
        discord = None
        if settings.discord.enabled and settings.discord.token is not None:
            # discord.py takes its time to import; without a token nobody should wait for it.
            from understudy.app.discord import on_discord

            token = settings.discord.token.get_secret_value()
            discord = await stack.enter_async_context(on_discord(bot, token))
        await stack.enter_async_context(answering(bot))
        await stack.enter_async_context(keeping_current(bot))
        # What was made to start up stays for good: the collector need not look at it again. What
        # replies make is nearly free of cycles: looking as often as usual takes a tenth of the CPU.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_OBJECTS_PER_LOOK)
        yield Running(bot, page, base_url, discord)


async def until_told_to_stop(platform: asyncio.Task[None] | None = None) -> None:
    """Wait for Ctrl-C or the signal that service managers send. A second one is not caught.

    Raises what `platform` ends with, when that comes first.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    caught = (signal.SIGINT, signal.SIGTERM)
    for number in caught:
        loop.add_signal_handler(number, told.set)
    waiting = asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait(
            {waiting, platform} if platform else {waiting}, return_when=asyncio.FIRST_COMPLETED
        )
        if platform is not None and platform.done():
            platform.result()
    finally:
        waiting.cancel()
        for number in caught:
            loop.remove_signal_handler(number)


def need_a_provider(config: Config) -> None:
    """Raises ConfigError with the next step where no provider could ever answer."""
    if not usable_providers(config.settings.model):
        raise ConfigError(_NEXT_STEP)


_NEXT_STEP = """\
No model server is usable yet. Do one of these, then start again:
  - put an OpenRouter key (free, from https://openrouter.ai/keys) into .env:  OPENROUTER_API_KEY=...
  - or enable a model on this machine in config.yaml:  model.local.enabled: true
Or see how it works without any:  understudy demo"""
