"""Applies edits while the bot runs: configuration, personas, lorebooks."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from understudy.app.bot import Bot
from understudy.config.watch import watch_config
from understudy.errors import ConfigError

_log = structlog.get_logger()
_RETRY_S = 10.0
"""The pause after an unexpected error."""
_CHECK_EVERY_S = 1.0
"""How often the folders of personas and lorebooks are checked."""


@asynccontextmanager
async def watching_for_changes(bot: Bot) -> AsyncGenerator[None]:
    """Apply changes in the background; an invalid one does not stop the watch."""
    tasks = {
        asyncio.create_task(_watch_config(bot), name="reload"),
        asyncio.create_task(_watch_personas(bot), name="personas"),
    }
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _watch_config(bot: Bot) -> None:
    """Reload whenever the file is saved; an invalid one changes nothing and is logged."""
    if bot.config.path is None:
        return
    while True:
        try:
            async for _ in watch_config(bot.config.path, bot.config.stamp):
                await _reload(bot)
        except Exception as error:  # noqa: BLE001 - the root of this task
            _log.exception("config.watch_failed", error=type(error).__name__)
        await asyncio.sleep(_RETRY_S)


async def _reload(bot: Bot) -> None:
    try:
        _log.info("config.reloaded", said=await bot.reload(), rev=bot.config.rev)
        for warning in bot.config.warnings:
            _log.warning("config.doubtful", said=warning)
    except ConfigError as error:
        _log.error("config.refused", said=str(error), still=bot.config.rev)
    except Exception as error:  # noqa: BLE001 - a bug must not end the watch
        _log.exception("config.reload_failed", error=type(error).__name__, still=bot.config.rev)


async def _watch_personas(bot: Bot) -> None:
    """Apply saved, added and removed cards and books; an invalid one is logged."""
    while True:
        pause_s = _CHECK_EVERY_S
        try:
            await bot.reload_personas()
        except ConfigError as error:
            _log.error("personas.refused", said=str(error))
        except Exception as error:  # noqa: BLE001 - the root of this task
            _log.exception("personas.failed", error=type(error).__name__)
            pause_s = _RETRY_S
        await asyncio.sleep(pause_s)
