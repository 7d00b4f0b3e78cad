"""The composition root: builds the parts of the bot and connects them.

Start order: storage, ledger, router, conversation, platforms. Shutdown waits for running replies
and then stops the parts in reverse order.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import structlog

from understudy.app.background import ledger_retention, tracing
from understudy.app.client_keys import ClientKeys
from understudy.app.images import ImageSupport
from understudy.app.media import open_media
from understudy.app.memory import WITHOUT_MEMORY, MemorySupport, open_memory
from understudy.app.models import ReloadableRouter
from understudy.app.router_state import capability_prober, persistent_router_state, shared_state
from understudy.app.titles import open_titles
from understudy.attachments.reader import AttachmentReader
from understudy.clock import Clock
from understudy.config.load import Config, load_config
from understudy.config.restart_required import restart_required
from understudy.config.settings import Settings, Vision
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.inbox import InboxStore
from understudy.conversation.lore.effects import EffectStore
from understudy.conversation.lore.patterns import SEARCHER_LIMITS, Patterns
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.orders import OrderBook
from understudy.conversation.personas.folder import LibraryStamp, library_stamp, load_library
from understudy.conversation.personas.registry import Personas
from understudy.conversation.preferences import MemoryPreferences, Preferences, PreferenceStore
from understudy.conversation.titles import TitleMaker
from understudy.observability.alerts import Alerts
from understudy.observability.ledger_queue import LedgerQueue
from understudy.observability.logs import Logs
from understudy.observability.prompt_log import PromptLog
from understudy.observability.record_log import LogObserver
from understudy.routing.environment import RouterEnvironment
from understudy.routing.ledger import LedgerReader
from understudy.routing.quotas import QuotaGuard
from understudy.routing.records import AttemptObserver
from understudy.speech.service import VoiceReader
from understudy.storage.in_memory_inbox import MemoryInbox
from understudy.storage.in_memory_tables import MemoryTables
from understudy.workers.pool import WorkerPool

if TYPE_CHECKING:
    from understudy.storage.roles import Role
    from understudy.storage.shared_stops import SharedStops
    from understudy.storage.stores import Stores

_log = structlog.get_logger()
_SHARED_REFRESH_S = 1.0
GRACE_S = 20.0
"""How long running replies may take at shutdown."""
_PROBE_LIMIT_S = 2.0
"""How long a short-lived command waits to learn contexts and vision of the engines at home."""


async def _no_others() -> int:
    return 0


@dataclass(slots=True)
class Bot:
    """Everything but the platforms. Configuration changes apply at once."""

    config: Config
    logs: Logs
    observers: list[AttemptObserver]
    """Receive every attempt and reply; more can be added while the bot runs."""
    models: ReloadableRouter
    personas: Personas
    guard: QuotaGuard
    clocks: Clock = field(default_factory=Clock)
    ledger: LedgerReader | None = None
    """None without a database."""
    client_keys: ClientKeys | None = None
    """Keys of the gateway in the database."""
    storage: "Stores | None" = None
    """Where other processes use the same database."""
    upkeep: "Role | None" = None
    """Of the process that deletes old rows, where several use one database."""
    alerts: Alerts = field(default_factory=Alerts)
    """Reports problems that only the operator can fix."""
    prompts: PromptLog = field(init=False)
    """The router's `reply`, which also writes prompts to files where that is enabled."""
    library: LibraryStamp = frozenset()
    """The state of the files that `personas` were read from."""
    instance: str = ""
    """The name of this process in the database; empty without one."""
    stops: "SharedStops | None" = None
    """Stops replies of other processes, where several use one database."""
    other_instances: Callable[[], Awaitable[int]] = _no_others
    """How many other processes use the database now. Raises StorageError."""
    discord_state: Callable[[], str] = lambda: "not used: it is disabled, or there is no token"
    """The state of the connection to Discord, in words."""
    started: Settings = field(init=False)
    """The settings this process was started with."""
    images: ImageSupport = field(init=False)
    attachments: AttachmentReader = field(init=False)
    voices: VoiceReader = field(init=False)
    searchers: WorkerPool = field(init=False)
    """Child processes that search the patterns of lorebooks."""
    titles: TitleMaker = field(init=False)
    messages: MessageRouter = field(init=False)
    memory: MemorySupport = WITHOUT_MEMORY

    def __post_init__(self) -> None:
        self.started = self.config.settings

    def settings(self) -> Settings:
        return self.config.settings

    def orders(self) -> OrderBook:
        candidates = self.models.router.candidates
        return OrderBook(
            self.settings().orders,
            usual=tuple(
                dict.fromkeys(c.name.rstrip("/") for c in candidates if not c.only_by_name)
            ),
            others=tuple(dict.fromkeys(c.name.rstrip("/") for c in candidates if c.only_by_name)),
        )

    def vision(self) -> Vision:
        return self.config.settings.vision

    def does_upkeep(self) -> bool:
        return self.upkeep is None or self.upkeep.held

    async def stop_elsewhere(self, reply_id: str) -> bool:
        """Ask the process that writes this reply to stop it. Raises StorageError."""
        if self.stops is None:
            return False
        await self.stops.ask(reply_id)
        return True

    async def reload(self) -> str:
        """Load the configuration again and apply it as a whole; returns the result in a sentence.

        Raises ConfigError, and then nothing has changed.
        """
        path = self.config.path
        fresh = await asyncio.to_thread(load_config, path, os.environ)
        personas = await _personas(fresh, self.personas)
        self.models.use(fresh)
        deferred = restart_required(self.started, fresh.settings)
        warned = self.settings().logging.prompts
        self.config, self.personas = fresh, personas
        if self.storage is not None:
            self.storage.coordinator.config_rev = fresh.rev
        if not warned:
            self.prompts.announce()
        self.logs.set_level(fresh.settings.logging.level)
        message = f"Configuration reloaded ({fresh.rev})."
        return f"{message} At the next start: {', '.join(deferred)}." if deferred else message

    async def reload_personas(self) -> None:
        """Load personas and lorebooks again if one of their files changed.

        Raises ConfigError where one is invalid, and then the old ones stay in use.
        """
        config = self.config
        seen = await _library(config)
        if seen == self.library:
            return
        self.library = seen
        personas = await _personas(config, self.personas)
        if config is not self.config:
            # The configuration changed meanwhile; load again under the new one.
            self.library = frozenset()
            return
        self.personas = personas
        _log.info("personas.reloaded", personas=len(personas.keys))


@asynccontextmanager
async def open_bot(
    config: Config, logs: Logs, clocks: Clock | None = None, *, shared: bool = False
) -> AsyncGenerator[Bot]:
    """Storage, ledger, router and conversation. Raises ConfigError and StorageError.

    `shared` says that other processes use a SQLite database too; on PostgreSQL they may always.
    """
    # SQLAlchemy takes half a second to import, which `ask` does not need.
    from understudy.storage.files import storage_files
    from understudy.storage.ledger import Ledger

    settings, clocks = config.settings, clocks or Clock()
    files = storage_files(settings.storage, config_folder(config))
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(_stores(config, shared=shared))
        ledger = Ledger(storage.database)
        queue = await stack.enter_async_context(LedgerQueue(ledger))
        alerts = Alerts(clocks.wall)
        log = stack.enter_context(LogObserver(logs, clocks.wall))
        observers: list[AttemptObserver] = [log, queue, alerts]
        bot = await stack.enter_async_context(_open_models(config, logs, observers, clocks))
        bot.alerts = alerts
        await bot.guard.recall(ledger)
        bot.ledger = ledger
        await _use_stores(bot, storage)
        await open_media(bot, files.beside("images"), stack)
        await stack.enter_async_context(_conversation_with_memory(bot, storage))
        await stack.enter_async_context(persistent_router_state(bot, files))
        if shared or storage.database.is_shared:
            await stack.enter_async_context(shared_state(bot, storage))
        await stack.enter_async_context(
            ledger_retention(bot.settings, ledger, clocks.wall, bot.does_upkeep)
        )
        await stack.enter_async_context(tracing(settings.telemetry, observers))
        yield bot


@asynccontextmanager
async def _stores(config: Config, *, shared: bool) -> "AsyncGenerator[Stores]":
    from understudy.storage.stores import open_storage

    async with open_storage(
        config.settings.storage.url,
        persist=config.settings.conversation.persist,
        config_rev=config.rev,
        interval_s=_SHARED_REFRESH_S if shared else None,
    ) as storage:
        yield storage


async def _use_stores(bot: Bot, storage: "Stores") -> None:
    """Name this process, and read the gateway's keys, again when another process changed them."""
    coordinator = storage.coordinator
    bot.instance, bot.other_instances = coordinator.id, coordinator.count_others
    bot.client_keys = ClientKeys(storage.client_keys, bot.clocks.wall, coordinator.notify)
    await bot.client_keys.refresh()
    coordinator.refreshers.append(bot.client_keys.refresh)


@asynccontextmanager
async def open_bot_without_history(config: Config, logs: Logs) -> AsyncGenerator[Bot]:
    """The same without stored conversations: history exists only while it is open.

    Where the database exists, replies are in its ledger and its quotas bind. Raises StorageError.
    """
    async with AsyncExitStack() as stack:
        clocks = Clock()
        log = stack.enter_context(LogObserver(logs, clocks.wall))
        observers: list[AttemptObserver] = [log]
        bot = await stack.enter_async_context(_open_models(config, logs, observers, clocks))
        if _has_database(config):
            await stack.enter_async_context(_ledger_alone(bot))
        folder = stack.enter_context(TemporaryDirectory(prefix="understudy-"))
        await open_media(bot, Path(folder), stack)
        tables = MemoryTables()
        inbox = MemoryInbox(tables, "me")
        bot.titles = await stack.enter_async_context(open_titles(bot, inbox))
        bot.messages = _conversation(bot, inbox, MemoryPreferences(), tables.effects)
        await capability_prober(bot).probe_local(_PROBE_LIMIT_S)
        yield bot


def _has_database(config: Config) -> bool:
    from understudy.storage.database import sqlite_path

    path = sqlite_path(config.settings.storage.url)
    return path is None or path.is_file()


@asynccontextmanager
async def _ledger_alone(bot: Bot) -> AsyncGenerator[None]:
    """Record in the ledger, and count what was used today, without the other stores."""
    from understudy.storage.database import Database
    from understudy.storage.files import storage_files
    from understudy.storage.ledger import Ledger

    storage = bot.settings().storage
    database = await Database.open(storage.url)
    try:
        ledger = Ledger(database)
        async with LedgerQueue(ledger) as queue:
            bot.observers.append(queue)
            bot.ledger = ledger
            await bot.guard.recall(ledger)
            # Prices, without which costs that no server reports stay unknown.
            await capability_prober(
                bot, storage_files(storage, config_folder(bot.config)).beside("models")
            ).recall()
            yield
    finally:
        await database.aclose()


@asynccontextmanager
async def _open_models(
    config: Config, logs: Logs, observers: list[AttemptObserver], clocks: Clock
) -> AsyncGenerator[Bot]:
    library = await _library(config)
    personas = await _personas(config)
    environment = RouterEnvironment(clock=clocks.monotonic, wall=clocks.wall, observers=observers)
    models = ReloadableRouter(config, environment)
    guard = QuotaGuard(lambda: bot.settings().limits, clocks.wall)
    observers.append(guard)
    bot = Bot(config, logs, observers, models, personas, guard, clocks, library=library)
    bot.prompts = PromptLog(
        models.reply, lambda: bot.settings().logging, config_folder(config), clocks.wall
    )
    bot.prompts.announce()
    try:
        async with WorkerPool("patterns", SEARCHER_LIMITS) as bot.searchers:
            yield bot
    finally:
        await models.aclose()


@asynccontextmanager
async def answering(bot: Bot, *, grace_s: float = GRACE_S) -> AsyncGenerator[None]:
    """Answer messages; entered once every platform is registered. The exit waits for running
    replies while the platforms can still deliver them."""
    await bot.messages.start()
    try:
        yield
    finally:
        await bot.messages.aclose(grace_s)


def config_folder(config: Config) -> Path:
    """The folder that relative paths of the configuration refer to."""
    return config.path.parent if config.path is not None else Path()


async def _library(config: Config) -> LibraryStamp:
    return await asyncio.to_thread(library_stamp, config.settings.persona, config_folder(config))


async def _personas(config: Config, previous: Personas | None = None) -> Personas:
    settings, folder = config.settings.persona, config_folder(config)
    earlier = None if previous is None else previous.library
    library = await asyncio.to_thread(load_library, settings, folder, earlier)
    for warning in library.warnings:
        _log.warning("personas.file_unusable", reason=warning)
    return Personas(settings, library)


@asynccontextmanager
async def _conversation_with_memory(bot: Bot, storage: "Stores") -> AsyncGenerator[None]:
    async with (
        open_titles(bot, storage.inbox) as bot.titles,
        open_memory(bot, storage.memory) as bot.memory,
    ):
        bot.messages = _conversation(bot, storage.inbox, storage.preferences, storage.effects)
        yield


def _conversation(
    bot: Bot, inbox: InboxStore, preferences: PreferenceStore, effects: EffectStore
) -> MessageRouter:
    return MessageRouter(
        Dependencies(
            store=inbox,
            preferences=Preferences(preferences),
            reply=bot.prompts.reply,
            settings=bot.settings,
            personas=lambda: bot.personas,
            effects=effects,
            patterns=Patterns(bot.searchers),
            select_images=bot.images.selector.select,
            memory=bot.memory.memory,
            follow_ups=(
                bot.images.captioner.follow_up,
                bot.titles.follow_up,
                *bot.memory.follow_ups,
            ),
            orders=bot.orders,
            may_spend=bot.guard.may_spend,
            reserve=bot.guard.reserve,
            reserve_message=bot.guard.reserve_message,
            note_network=bot.guard.note_network,
            stop_elsewhere=bot.stop_elsewhere,
            does_upkeep=bot.does_upkeep,
            now=bot.clocks.wall,
        )
    )
