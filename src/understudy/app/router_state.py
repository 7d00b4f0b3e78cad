"""The state of the model servers beyond one run and one process: on disk, and in the database."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.routing.candidates import ScopeKey
from understudy.routing.cooldown_store import CooldownStore
from understudy.routing.monitoring import CapabilityProber

if TYPE_CHECKING:
    from understudy.app.bot import Bot
    from understudy.storage.files import StorageFiles
    from understudy.storage.stores import Stores

_UPKEEP = "upkeep"


@asynccontextmanager
async def persistent_router_state(bot: "Bot", files: "StorageFiles") -> AsyncGenerator[None]:
    """Persist the state of the model servers in files beside the database."""
    async with (
        _persistent_cooldowns(bot, files.beside("holds")),
        _capability_probing(bot, files.beside("models")),
    ):
        yield


@asynccontextmanager
async def _persistent_cooldowns(bot: "Bot", file: Path) -> AsyncGenerator[None]:
    """Persist in `file` the cooldowns of rejected keys and empty accounts."""
    cooldowns = CooldownStore(
        file, bot.models.router.memory.board, bot.clocks.monotonic, bot.clocks.wall
    )
    await cooldowns.recall(bot.config)
    try:
        yield
    finally:
        await cooldowns.keep(bot.config)


@asynccontextmanager
async def shared_state(bot: "Bot", storage: "Stores") -> AsyncGenerator[None]:
    """Share cooldowns, quotas and the Stop button with the other processes of this database."""
    from understudy.storage.roles import Role, holding
    from understudy.storage.shared_cooldowns import poll_rights, share_cooldowns
    from understudy.storage.shared_quotas import open_quotas
    from understudy.storage.shared_stops import open_stops

    def keys() -> set[ScopeKey]:
        return {key for c in bot.models.router.candidates for key in c.scope_keys}

    bot.storage = storage
    bot.logs.bind(instance=storage.coordinator.id)
    board, clock = bot.models.router.memory.board, bot.clocks.monotonic
    bot.upkeep = Role(_UPKEEP, storage.database, storage.coordinator)
    async with (
        holding(bot.upkeep, storage.coordinator),
        share_cooldowns(storage.database, storage.coordinator, board, keys, clock),
        open_quotas(storage.database, storage.coordinator) as quotas,
        open_stops(
            storage.database,
            storage.coordinator,
            lambda: bot.messages.running,
            bot.messages.stop,
        ) as bot.stops,
    ):
        await quotas.seed(bot.guard.used_today())
        bot.guard.shared = quotas
        health = bot.models.router.memory.health
        health.rights = poll_rights(storage.database, storage.coordinator)
        yield


@asynccontextmanager
async def _capability_probing(bot: "Bot", file: Path) -> AsyncGenerator[None]:
    """Probe capabilities of the models in the background; `file` persists them."""
    prober = capability_prober(bot, file)
    await prober.recall()
    task = asyncio.create_task(prober.run(), name="capability prober")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        await prober.save()


def capability_prober(bot: "Bot", file: Path | None = None) -> CapabilityProber:
    return CapabilityProber(
        lambda: bot.models.router.candidates,
        bot.models.router.memory.book,
        bot.models.prices,
        file=file,
        wall=bot.clocks.wall,
    )
