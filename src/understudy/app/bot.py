"""The composition root: the only module that knows every room.

Starting goes from the inside out: storage, ledger, router, conversation, then the platforms that
let people in. Shutting down lets running replies end first, and then goes the other way.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from understudy.app.background import forgetting, tracing
from understudy.app.images import ImageSupport, open_sight
from understudy.app.models import ReloadableRouter
from understudy.clock import Clock
from understudy.config.load import Config, load_config
from understudy.config.restart_required import restart_required
from understudy.config.settings import Settings, Vision
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.inbox import InboxStore
from understudy.conversation.lore.effects import EffectStore
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.personas.folder import LibraryStamp, library_stamp, load_library
from understudy.conversation.personas.registry import Personas
from understudy.conversation.preferences import MemoryPreferences, Preferences, PreferenceStore
from understudy.observability.alerts import Alerts
from understudy.observability.events import LogObserver
from understudy.observability.ledger_queue import LedgerQueue
from understudy.observability.logs import Logs
from understudy.observability.prompt_log import PromptLog
from understudy.routing.cooldown_store import CooldownStore
from understudy.routing.ledger import LedgerReader
from understudy.routing.monitoring import CapabilityProber
from understudy.routing.quotas import QuotaGuard
from understudy.routing.records import AttemptObserver
from understudy.routing.router import RouterEnvironment
from understudy.storage.in_memory_inbox import MemoryInbox
from understudy.storage.in_memory_tables import MemoryTables

_log = structlog.get_logger()
GRACE_S = 20.0
"""How long replies that run at shutdown may still take."""


@dataclass(slots=True)
class Bot:
    """Everything but the platforms. What changes with the configuration changes at once."""

    config: Config
    logs: Logs
    observers: list[AttemptObserver]
    """Whoever is added here is told of every attempt from then on."""
    models: ReloadableRouter
    personas: Personas
    guard: QuotaGuard
    clocks: Clock = field(default_factory=Clock)
    ledger: LedgerReader | None = None
    """Absent where nothing is kept."""
    alerts: Alerts = field(default_factory=Alerts)
    """Its listeners are told what only the operator can mend."""
    prompts: PromptLog = field(init=False)
    """The router's `reply` for everyone: it writes prompts down where that was asked for."""
    library: LibraryStamp = frozenset()
    """The files that `personas` were read from, as they were then."""
    started: Settings = field(init=False)
    """The settings this process was started with."""
    sight: ImageSupport = field(init=False)
    messages: MessageRouter = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.config.settings

    def settings(self) -> Settings:
        return self.config.settings

    def vision(self) -> Vision:
        return self.config.settings.vision

    async def reload(self) -> str:
        """Read the configuration again and take it over as a whole; what came of it in a sentence.

        Raises ConfigError, and then everything is as it was.
        """
        path = self.config.path
        fresh = await asyncio.to_thread(load_config, path, os.environ)
        personas = await _personas(fresh)
        self.models.use(fresh)
        stale = restart_required(self.started, fresh.settings)
        warned = self.settings().logging.prompts
        self.config, self.personas = fresh, personas
        if not warned:
            self.prompts.announce()
        self.logs.set_level(fresh.settings.logging.level)
        said = f"The configuration {fresh.rev} is in force."
        return f"{said} At the next start: {', '.join(stale)}." if stale else said

    async def reload_personas(self) -> None:
        """Read personas and lorebooks again if a file of theirs changed.

        Raises ConfigError where one cannot be used, and then the old ones stay.
        """
        config = self.config
        seen = await _library(config)
        if seen == self.library:
            return
        self.library = seen
        personas = await _personas(config)
        if config is not self.config:
            # The configuration changed meanwhile; look again under the new one.
            self.library = frozenset()
            return
        self.personas = personas
        _log.info("personas.reloaded", personas=len(personas.keys))


@asynccontextmanager
async def open_bot(config: Config, logs: Logs, clocks: Clock | None = None) -> AsyncGenerator[Bot]:
    """Storage, ledger, router and conversation. Raises ConfigError and StorageError."""
    # The database's library takes half a second to import, which `ask` need not wait for.
    from understudy.storage.database import database_path
    from understudy.storage.ledger import Ledger
    from understudy.storage.stores import open_storage

    settings, clocks = config.settings, clocks or Clock()
    path = database_path(settings.storage.url)
    async with AsyncExitStack() as stack:
        kept = open_storage(path, persist=settings.conversation.persist)
        storage = await stack.enter_async_context(kept)
        ledger = Ledger(storage.database)
        queue = await stack.enter_async_context(LedgerQueue(ledger))
        alerts = Alerts(clocks.wall)
        observers: list[AttemptObserver] = [LogObserver(), queue, alerts]
        bot = await stack.enter_async_context(_with_models(config, logs, observers, clocks))
        bot.alerts = alerts
        await bot.guard.recall(ledger)
        bot.ledger = ledger
        bot.sight = await stack.enter_async_context(
            open_sight(
                path.with_name(f"{path.name}-images"), bot.vision, bot.prompts.reply, clocks.wall
            )
        )
        bot.messages = _conversation(bot, storage.inbox, storage.preferences, storage.effects)
        await stack.enter_async_context(_remembering(bot, path))
        await stack.enter_async_context(forgetting(bot.settings, ledger, clocks.wall))
        await stack.enter_async_context(tracing(settings.telemetry, observers))
        yield bot


@asynccontextmanager
async def open_forgetful_bot(config: Config, logs: Logs) -> AsyncGenerator[Bot]:
    """The same without a database: it remembers for as long as it is open."""
    async with AsyncExitStack() as stack:
        clocks = Clock()
        bot = await stack.enter_async_context(_with_models(config, logs, [LogObserver()], clocks))
        folder = stack.enter_context(TemporaryDirectory(prefix="understudy-"))
        bot.sight = await stack.enter_async_context(
            open_sight(Path(folder), bot.vision, bot.prompts.reply, clocks.wall)
        )
        tables = MemoryTables()
        inbox = MemoryInbox(tables, "me")
        bot.messages = _conversation(bot, inbox, MemoryPreferences(), tables.effects)
        yield bot


@asynccontextmanager
async def _with_models(
    config: Config, logs: Logs, observers: list[AttemptObserver], clocks: Clock
) -> AsyncGenerator[Bot]:
    library = await _library(config)
    personas = await _personas(config)
    tools = RouterEnvironment(clock=clocks.monotonic, wall=clocks.wall, observers=observers)
    models = ReloadableRouter(config, tools)
    guard = QuotaGuard(lambda: bot.settings().limits, clocks.wall)
    observers.append(guard)
    bot = Bot(config, logs, observers, models, personas, guard, clocks, library=library)
    bot.prompts = PromptLog(
        models.reply, lambda: bot.settings().logging, folder_of(config), clocks.wall
    )
    bot.prompts.announce()
    try:
        yield bot
    finally:
        await models.aclose()


@asynccontextmanager
async def answering(bot: Bot, *, grace_s: float = GRACE_S) -> AsyncGenerator[None]:
    """Answer from now on; entered once every platform is registered. Leaving it lets running
    replies end, while the platforms can still show them."""
    await bot.messages.start()
    try:
        yield
    finally:
        await bot.messages.aclose(grace_s)


@asynccontextmanager
async def _remembering(bot: Bot, database: Path) -> AsyncGenerator[None]:
    """Keep for the next start, beside the database, what is known of the model servers."""
    holds, facts = (database.with_name(f"{database.name}-{what}") for what in ("holds", "models"))
    async with _holding_over(bot, holds), _scouting(bot, facts):
        yield


@asynccontextmanager
async def _holding_over(bot: Bot, file: Path) -> AsyncGenerator[None]:
    """Keep in `file` which keys were refused and which accounts are empty, for the next start."""
    held = CooldownStore(
        file, bot.models.router.memory.board, bot.clocks.monotonic, bot.clocks.wall
    )
    await held.recall(bot.config)
    try:
        yield
    finally:
        await held.keep(bot.config)


@asynccontextmanager
async def _scouting(bot: Bot, file: Path) -> AsyncGenerator[None]:
    """Find out in the background what the models can do; `file` keeps it for the next start."""
    scout = CapabilityProber(
        lambda: bot.models.router.candidates,
        bot.models.router.memory.book,
        bot.models.prices,
        file=file,
        wall=bot.clocks.wall,
    )
    await scout.recall()
    task = asyncio.create_task(scout.run(), name="scout")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def folder_of(config: Config) -> Path:
    """The folder that relative paths of the configuration start from."""
    return config.path.parent if config.path is not None else Path()


async def _library(config: Config) -> LibraryStamp:
    return await asyncio.to_thread(library_stamp, config.settings.persona, folder_of(config))


async def _personas(config: Config) -> Personas:
    settings = config.settings.persona
    library = await asyncio.to_thread(load_library, settings, folder_of(config))
    return Personas(settings, library)


def _conversation(
    bot: Bot, inbox: InboxStore, wishes: PreferenceStore, effects: EffectStore
) -> MessageRouter:
    return MessageRouter(
        Dependencies(
            store=inbox,
            preferences=Preferences(wishes),
            reply=bot.prompts.reply,
            settings=bot.settings,
            personas=lambda: bot.personas,
            effects=effects,
            look=bot.sight.eyes.look,
            saw=bot.sight.saw,
            may_spend=bot.guard.may_spend,
            limited_until=bot.guard.limited_until,
            now=bot.clocks.wall,
        )
    )
