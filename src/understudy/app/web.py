"""The web pages over a bot."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from understudy.app.bot import Bot, folder_of
from understudy.app.file_limits import open_files, shares
from understudy.app.images import Taken
from understudy.app.lore import try_lore
from understudy.app.status import anyone_usable, candidate_views, gauges
from understudy.config.settings import Settings
from understudy.conversation.messages import Place
from understudy.conversation.personas.importing import import_card
from understudy.images.intake import ImageSource
from understudy.observability.logs import Level
from understudy.observability.metrics import Metrics
from understudy.platforms.web.chat import PLATFORM, ImageActions, Upload
from understudy.platforms.web.live import LiveConversations
from understudy.platforms.web.operator import OperatorActions
from understudy.platforms.web.personas import PersonaActions
from understudy.platforms.web.platform import WebDependencies, WebPlatform
from understudy.platforms.web.templates import PageContext


@dataclass(frozen=True, slots=True)
class WebPage:
    url: str
    login: str
    """A link that lets one browser in as operator, once."""


@asynccontextmanager
async def web_page(bot: Bot, token_file: Path) -> AsyncGenerator[WebPage]:
    """Serve the pages. Raises ConfigError where the address cannot be had or is not safe."""
    platform = WebPlatform(LiveConversations(bot.clocks.wall))
    metrics = Metrics(lambda: gauges(bot.models, bot.clocks))
    bot.observers.extend((platform.rooms, platform.feed, metrics))
    bot.messages.register(PLATFORM, platform.rooms.open_delivery)
    async with platform.open(_house(bot, token_file, metrics)):
        yield WebPage(platform.url, platform.new_login_link())


def _house(bot: Bot, token_file: Path, metrics: Metrics) -> WebDependencies:
    return WebDependencies(
        web=bot.settings().web,
        face=lambda: _face(bot.settings()),
        token_file=token_file,
        answers=bot.messages,
        memory=bot.messages.store,
        ledger=bot.ledger,
        candidates=lambda: candidate_views(bot.models),
        switches=OperatorActions(
            reload=bot.reload,
            reset=bot.models.reset,
            level=lambda: bot.logs.level,
            # The page checks the word before it gets here.
            set_level=lambda level: bot.logs.set_level(cast("Level", level)),
        ),
        ready=lambda: anyone_usable(bot.models),
        for_machines=[("/metrics", metrics.page)],
        eyes=_eyes(bot),
        personas=_personas(bot),
        visitors=shares(open_files()).visitors,
        clock=bot.clocks.wall,
    )


def _face(settings: Settings) -> PageContext:
    return PageContext(settings.persona.name, takes_images=settings.vision.enabled)


def _personas(bot: Bot) -> PersonaActions:
    async def take(card: bytes) -> str:
        folder = folder_of(bot.config) / bot.settings().persona.folder
        made = await asyncio.to_thread(import_card, card, folder)
        await bot.reload_personas()
        return f"{made.file.card.name} is here as {made.key!r}."

    here = Place(PLATFORM, "")
    return PersonaActions(
        take,
        lambda: bot.personas.keys,
        lambda text, persona: try_lore(bot, text, here, persona),
    )


def _eyes(bot: Bot) -> ImageActions:
    async def take(uploads: Sequence[Upload], text: str) -> Taken:
        return await bot.sight.take([ImageSource(u.name, data=u.data) for u in uploads], text)

    return ImageActions(take, bot.sight.room.find)
