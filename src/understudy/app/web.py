"""Serves the web pages of a bot."""

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import cast

from understudy.app.bot import Bot, config_folder
from understudy.app.config_editor import ConfigEditor
from understudy.app.file_limits import divide_files, open_file_limit
from understudy.app.images import Intake
from understudy.app.persona_choice import persona_choice, server_choice
from understudy.app.personas import persona_actions
from understudy.app.status import any_usable, candidate_views, check_server, gauges
from understudy.app.web_memory import memory_actions
from understudy.app.workers import ALONE, Worker
from understudy.attachments.source import FileSource
from understudy.config.masking import as_yaml, masked
from understudy.config.settings import GatewayKey, Settings
from understudy.conversation.messages import AttachedText
from understudy.gateway.auth import key_user
from understudy.images.intake import ImageSource
from understudy.observability.logs import Level
from understudy.observability.metrics import Metrics
from understudy.platforms.web.auth import UseOnce
from understudy.platforms.web.chat import PLATFORM, FileTexts, ImageActions, ReadFiles, Upload
from understudy.platforms.web.config_page import ConfigActions, ConfigText
from understudy.platforms.web.gateway_keys import GatewayKeyActions, GatewayView, KeyView
from understudy.platforms.web.live import Change, LiveConversations
from understudy.platforms.web.live_entries import LiveReply
from understudy.platforms.web.operator import OperatorActions
from understudy.platforms.web.operator_reports import ProgramFacts
from understudy.platforms.web.platform import WebDependencies, WebPlatform
from understudy.platforms.web.site import ReadPage
from understudy.platforms.web.templates import PageContext
from understudy.routing.client_keys import KeyLimitValues
from understudy.routing.quotas import Charge, Unit


@dataclass(frozen=True, slots=True)
class WebPage:
    url: str
    login: str
    """A one-time link that logs one browser in as operator."""


@asynccontextmanager
async def web_page(bot: Bot, token_file: Path, worker: Worker = ALONE) -> AsyncGenerator[WebPage]:
    """Serve the pages. Raises ConfigError where the address is in use or not safe."""
    platform = WebPlatform(LiveConversations(bot.clocks.wall))
    metrics = Metrics(lambda: gauges(bot.models, bot.clocks))
    bot.observers.extend((platform.live, platform.feed, metrics))
    bot.messages.register(PLATFORM, platform.live.open_delivery)
    bot.titles.on_title = lambda channel: platform.live.title_changed(channel.id)
    bot.memory.show_proposals(PLATFORM, platform.show_proposal)
    async with _shared_text(bot, platform.live), _all_metrics(bot, metrics, worker) as read_metrics:
        deps = replace(
            _dependencies(bot, token_file, read_metrics, platform.live),
            processes=worker.count,
            refresh_choices=None
            if bot.storage is None
            else bot.messages.preferences.refresh_channel,
            use_once=_use_once(bot),
        )
        async with platform.open(deps):
            yield WebPage(platform.url, platform.new_login_link())


@asynccontextmanager
async def _all_metrics(bot: Bot, metrics: Metrics, worker: Worker) -> AsyncGenerator[ReadPage]:
    """The page `/metrics`; of several workers that of all."""
    if not worker.shares_ports:
        yield metrics.page
        return
    from understudy.observability.worker_metrics import open_worker_metrics
    from understudy.storage.files import storage_files

    file = storage_files(bot.started.storage, config_folder(bot.config)).beside("metrics")
    place, wall = (worker.number, worker.count), bot.clocks.wall
    async with open_worker_metrics(metrics.page, file, *place, wall) as shared:
        yield shared.page


@asynccontextmanager
async def _shared_text(bot: Bot, live: LiveConversations) -> AsyncGenerator[None]:
    """Show replies of other instances on the pages of this one, and the reverse."""
    if bot.storage is None:
        yield
        return
    from understudy.storage.live_frames import Frame, open_frames

    def show(frame: Frame) -> None:
        if frame.change:
            live.change_remotely(frame.channel_id, Change(frame.change))
        elif frame.ended:
            live.end_remote(frame.channel_id, frame.reply_id)
        else:
            live.show_remote(frame.channel_id, frame.reply_id, frame.after_id, frame.text)

    database, coordinator = bot.storage.database, bot.storage.coordinator
    async with open_frames(database, coordinator, live.watched, show) as frames:

        def pass_on(channel_id: str, reply: LiveReply, *, ended: bool) -> None:
            frames.put(Frame(reply.id, channel_id, reply.after, reply.text, ended=ended))

        def pass_on_change(channel_id: str, change: Change) -> None:
            frames.put(Frame.of_change(channel_id, change))

        live.on_change, live.on_stored = pass_on, pass_on_change
        try:
            yield
        finally:
            live.on_change = live.on_stored = None


def _dependencies(
    bot: Bot, token_file: Path, read_metrics: ReadPage, live: LiveConversations
) -> WebDependencies:
    editor = ConfigEditor(bot, bot.clocks.wall)
    return WebDependencies(
        web=bot.settings().web,
        page_context=lambda: _page_context(bot.settings()),
        token_file=token_file,
        replies=bot.messages,
        history=bot.messages.store,
        ledger=bot.ledger,
        candidates=lambda: candidate_views(bot.models),
        actions=OperatorActions(
            reload=bot.reload,
            reset=bot.models.reset,
            level=lambda: bot.logs.level,
            # The page validates the level.
            set_level=lambda level: bot.logs.set_level(cast("Level", level)),
            test=lambda provider: check_server(bot.models, provider),
        ),
        ready=lambda: any_usable(bot.models),
        monitoring_pages=[("/metrics", read_metrics)],
        images=_image_actions(bot),
        personas=persona_actions(bot, editor),
        persona_choice=persona_choice(bot),
        server_choice=server_choice(bot),
        read_files=_read_files(bot),
        memory=memory_actions(bot, live),
        config=_config_actions(editor),
        gateway_keys=_gateway_key_actions(bot),
        read_log=lambda after: (bot.logs.tail.count, bot.logs.tail.since(after)),
        facts=_facts(bot, bot.clocks.wall()),
        max_connections=divide_files(open_file_limit()).visitors,
        clock=bot.clocks.wall,
    )


def _use_once(bot: Bot) -> UseOnce | None:
    """Records in the database which login links were used, where processes share one."""
    quotas = bot.guard.shared
    if quotas is None:
        return None

    async def use_once(name: str, until: float) -> bool:
        digest = hashlib.sha256(name.encode()).hexdigest()
        use = Charge(f"link:{digest}", "once", until, Unit.REQUESTS, 1.0, limit=1.0)
        return not isinstance(await quotas.reserve([use]), Charge)

    return use_once


def _facts(bot: Bot, started_at: float) -> Callable[[], ProgramFacts]:
    return lambda: ProgramFacts(
        version=version("understudy-bot"),
        started_at=started_at,
        revision=bot.config.rev,
        configuration=as_yaml(masked(bot.settings())),
        instance=bot.instance,
        discord=bot.discord_state(),
    )


def _config_actions(editor: ConfigEditor) -> ConfigActions:
    async def read() -> ConfigText:
        found = await editor.read()
        return ConfigText(found.text, found.digest, found.locked)

    return ConfigActions(read, editor.save)


def _gateway_key_actions(bot: Bot) -> GatewayKeyActions | None:
    keys = bot.client_keys
    if keys is None:
        return None

    def show() -> GatewayView:
        gateway = bot.settings().gateway
        host = f"[{gateway.host}]" if ":" in gateway.host else gateway.host
        configured = [
            KeyView(key.name, key_user(key.name), _limits_of(key), in_configuration=True)
            for key in gateway.keys
        ]
        made = [
            KeyView(
                key.name,
                key_user(key.name),
                key.limits,
                in_configuration=False,
                created_at=key.created_at,
                revoked_at=key.revoked_at,
            )
            for key in keys.stored
        ]
        url = f"http://{host}:{gateway.port}/v1"
        return GatewayView(bot.started.gateway.enabled, url, [*configured, *made])

    return GatewayKeyActions(
        show,
        lambda name, limits: keys.make(name, limits, bot.settings().gateway.keys),
        keys.limit,
        keys.revoke,
    )


def _limits_of(key: GatewayKey) -> KeyLimitValues:
    return KeyLimitValues(
        key.requests_per_minute, key.requests_per_day, key.tokens_per_minute, key.tokens_per_day
    )


def _page_context(settings: Settings) -> PageContext:
    return PageContext(
        settings.persona.name,
        max_images=settings.vision.max_images if settings.vision.enabled else 0,
        max_files=settings.attachments.max_files if settings.attachments.enabled else 0,
        proposes=settings.memory.propose,
    )


def _read_files(bot: Bot) -> ReadFiles:
    async def read(uploads: Sequence[Upload]) -> FileTexts:
        found = await bot.attachments.read([FileSource(u.name, data=u.data) for u in uploads])
        silent = [name for name in found.others if not any(name in note for note in found.notes)]
        notes = (*found.notes, *(f"{name} is no text or PDF file." for name in silent))
        return (*found.files, *(AttachedText(name, "") for name in found.others)), notes

    return read


def _image_actions(bot: Bot) -> ImageActions:
    async def take(uploads: Sequence[Upload], text: str) -> Intake:
        return await bot.images.take([ImageSource(u.name, data=u.data) for u in uploads], text)

    return ImageActions(take, bot.images.service.find)
