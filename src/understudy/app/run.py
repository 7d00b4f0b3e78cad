"""Runs a bot with every platform of its configuration until a stop signal."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from understudy.app.bot import Bot, answering, config_folder, open_bot
from understudy.app.gateway import gateway
from understudy.app.reload import watching_for_changes
from understudy.app.workers import ALONE, Worker, reporting
from understudy.clock import Clock
from understudy.config.load import Config
from understudy.errors import ConfigError
from understudy.observability.logs import Logs
from understudy.routing.candidates import usable_providers
from understudy.signals import on_signals, stop_signals
from understudy.storage.files import storage_files

if TYPE_CHECKING:
    from understudy.app.web import WebPage

_OBJECTS_PER_COLLECTION = 20_000


@dataclass(frozen=True, slots=True)
class Running:
    bot: Bot
    web: "WebPage | None"
    gateway: str | None
    """Its base URL."""
    discord: asyncio.Task[None] | None
    """Ends only with an error that the operator has to fix."""


@asynccontextmanager
async def running(
    config: Config, logs: Logs, clocks: Clock | None = None, worker: Worker = ALONE
) -> AsyncGenerator[Running]:
    """Start everything; stop it in reverse order. Raises ConfigError, StorageError.

    Each of several workers serves the page and the gateway.
    """
    settings = config.settings
    files = storage_files(settings.storage, config_folder(config))
    async with AsyncExitStack() as stack:
        bot = await stack.enter_async_context(
            open_bot(config, logs, clocks, shared=worker.shares_ports)
        )
        page = served = None
        if settings.web.enabled:
            from understudy.app.web import web_page

            token_file = files.beside("web-token")
            page = await stack.enter_async_context(web_page(bot, token_file, worker))
        if settings.gateway.enabled:
            served = await stack.enter_async_context(gateway(bot, worker))
        discord = None
        if settings.discord.enabled and settings.discord.token is not None:
            # discord.py is slow to import, and needed only with a token.
            from understudy.app.discord import discord_platform

            token = settings.discord.token.get_secret_value()
            discord = await stack.enter_async_context(discord_platform(bot, token))
        await stack.enter_async_context(answering(bot))
        await stack.enter_async_context(watching_for_changes(bot))
        if served is not None:
            # First of all, so that gateway and conversations have the same time to end.
            stack.callback(served.begin_shutdown)
        # Objects of the start live as long as the process, so the collector can skip them. Replies
        # create few cycles: the default frequency of collection takes a tenth of the CPU.
        _collect_less_often()
        yield Running(bot, page, None if served is None else served.url, discord)


def _collect_less_often() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION)


async def wait_for_stop(platform: asyncio.Task[None] | None = None, worker: Worker = ALONE) -> None:
    """Wait for SIGINT, SIGTERM, SIGHUP or the end of the supervisor. A second signal is not caught.

    Raises the error of `platform` if that ends first.
    """
    stopped = asyncio.Event()
    waiting = asyncio.ensure_future(stopped.wait())
    try:
        with on_signals(stop_signals(), stopped.set):
            async with reporting(worker, stopped.set):
                await asyncio.wait(
                    {waiting, platform} if platform else {waiting},
                    return_when=asyncio.FIRST_COMPLETED,
                )
        if platform is not None and platform.done():
            platform.result()
    finally:
        waiting.cancel()


def require_provider(config: Config) -> None:
    """Raises ConfigError with the next step where no provider could ever answer."""
    if not usable_providers(config.settings.model):
        raise ConfigError(NEXT_STEP)


NEXT_STEP = """\
No model server is usable yet. Let `understudy setup` find one, or do one of these:
  - put an OpenRouter key (free, from https://openrouter.ai/keys) into .env:  OPENROUTER_API_KEY=...
  - or enable a model server on this machine in config.yaml:  model.local.enabled: true
  - or let a small model answer that needs no server:  understudy models get,
    and in config.yaml:  model.local: {enabled: true, engine: builtin}
Or see how it works without any:  understudy demo"""
