"""Connects the bot to Discord."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

from understudy.app.bot import Bot
from understudy.app.images import Intake
from understudy.app.lore import try_lore
from understudy.app.status import providers_text
from understudy.attachments.source import FileSource
from understudy.clock import DAY_S
from understudy.conversation.messages import Author
from understudy.conversation.orders import order_for
from understudy.conversation.prompt.preview import describe
from understudy.errors import StorageError
from understudy.images.intake import ImageSource
from understudy.observability.logs import Level
from understudy.observability.reply_report import format_runs
from understudy.observability.usage_report import usage_text
from understudy.platforms.discord.bot import DiscordBot
from understudy.platforms.discord.client import Parts
from understudy.platforms.discord.command_context import (
    PRIVACY,
    PRIVACY_PICTURES,
    PRIVACY_UNKEPT,
    CommandContext,
)
from understudy.platforms.discord.inbound import (
    PLATFORM,
    FetchImages,
    FilesRead,
    FoundFile,
    ReadFiles,
)
from understudy.platforms.discord.presence import Presence
from understudy.routing.ledger import Grouping
from understudy.storage.roles import Role, run_with_role

_USAGE_DAYS = 30


@asynccontextmanager
async def discord_platform(bot: Bot, token: str) -> AsyncGenerator[asyncio.Task[None]]:
    """Register the platform, and stay connected until exit.

    Where processes share the database, one of them is connected with a token; the others wait. The
    task ends only with a ConfigError that says what the operator has to fix.
    """
    parts = Parts(
        router=bot.messages,
        settings=bot.settings,
        context=_command_context(bot),
        presence=Presence(),
        now=bot.clocks.wall,
        fetch_images=_fetch_images(bot),
        read_files=_read_files(bot),
    )
    platform = DiscordBot(parts, token)
    if bot.storage is None:
        work = _connected(bot, platform)
    else:
        role = Role(_role_name(token), bot.storage.database, bot.storage.coordinator)
        work = run_with_role(role, bot.storage.coordinator, lambda: _connected(bot, platform))
    bot.discord_state = platform.state
    task = asyncio.create_task(work, name="discord")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _connected(bot: Bot, platform: DiscordBot) -> None:
    with suppress(StorageError):
        # Mutes and opt-outs of the owner before.
        await bot.messages.preferences.refresh()
    bot.messages.register(PLATFORM, platform.open, platform.context)
    bot.alerts.listeners.append(platform.notify_admins)
    bot.memory.show_proposals(PLATFORM, platform.propose)
    try:
        await platform.run()
    finally:
        bot.memory.show_proposals(PLATFORM, None)
        bot.alerts.listeners.remove(platform.notify_admins)
        await bot.messages.unregister(PLATFORM)


def _role_name(token: str) -> str:
    """Names the token in the database without telling it."""
    return f"discord-{hashlib.blake2b(token.encode(), digest_size=16).hexdigest()}"


def _command_context(bot: Bot) -> CommandContext:
    return CommandContext(
        store=bot.messages.store,
        preferences=bot.messages.preferences,
        forget=bot.messages.forget,
        memory=bot.memory.commands,
        why=lambda reply_id: _why(bot, reply_id),
        providers=lambda: providers_text(bot.models, bot.clocks),
        usage=lambda user: _usage(bot, user),
        set_log_level=lambda level: bot.logs.set_level(cast("Level", level)),
        privacy=lambda: _privacy(bot),
        personas=lambda: bot.personas,
        orders=bot.orders,
        order_at=lambda place, roles: order_for(
            place,
            Author("", "", roles=roles),
            bot.settings(),
            bot.messages.preferences.now,
            bot.orders(),
        ),
        try_lore=lambda text, place: describe(try_lore(bot, text, place)),
    )


async def _why(bot: Bot, reply_id: str) -> str | None:
    runs = await bot.ledger.reply(reply_id) if bot.ledger is not None else ()
    return format_runs(runs) if runs else None


async def _usage(bot: Bot, user: str | None) -> str | None:
    """Usage of the last 30 days: of one user, or of all users by provider."""
    if bot.ledger is None:
        return None
    now = bot.clocks.wall()
    by = Grouping.PROVIDER if user is None else Grouping.USER
    rows = await bot.ledger.usage(by, now - _USAGE_DAYS * DAY_S, now + DAY_S)
    mine = tuple(row for row in rows if user in (None, row.key))
    return usage_text(mine) if mine else None


def _privacy(bot: Bot) -> str:
    persisted = bot.started.conversation.persist
    text = (
        PRIVACY.format(days=bot.settings().conversation.history_days)
        if persisted
        else PRIVACY_UNKEPT
    )
    if bot.vision().enabled:
        text += PRIVACY_PICTURES.format(days=bot.vision().keep_days)
    return text


def _fetch_images(bot: Bot) -> FetchImages:
    async def fetch(found: Sequence[FoundFile], text: str) -> Intake | None:
        if not bot.vision().enabled:
            return None
        sources = [ImageSource(image.name, url=image.url, size=image.size) for image in found]
        return await bot.images.take(sources, text)

    return fetch


def _read_files(bot: Bot) -> ReadFiles:
    async def read(found: Sequence[FoundFile]) -> FilesRead:
        sources = [FileSource(f.name, url=f.url, size=f.size) for f in found if not f.spoken]
        voices = [FileSource(f.name, url=f.url, size=f.size) for f in found if f.spoken]
        texts = await bot.attachments.read(sources)
        spoken = await bot.voices.read(voices)
        return (*spoken.files, *texts.files), (*spoken.notes, *texts.notes)

    return read
