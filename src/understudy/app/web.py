"""The web pages over a bot."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from starlette.routing import Route

from understudy.app.board import anyone_usable, candidate_views, gauges
from understudy.app.bot import Bot
from understudy.observability.logs import Level
from understudy.observability.metrics import Metrics
from understudy.platforms.web.access import Access
from understudy.platforms.web.chat import PLATFORM, ChatApi
from understudy.platforms.web.feed import Feed
from understudy.platforms.web.operator import Desk, OperatorPages, Switches
from understudy.platforms.web.rooms import Rooms
from understudy.platforms.web.serve import WebServer
from understudy.platforms.web.site import SiteParts, build_site
from understudy.platforms.web.tokens import check_host, operator_token


@dataclass(frozen=True, slots=True)
class WebPage:
    url: str
    login: str
    """A link that lets one browser in as operator, once."""


@asynccontextmanager
async def web_page(bot: Bot, token_file: Path) -> AsyncGenerator[WebPage]:
    """Serve the pages. Raises ConfigError where the address cannot be had or is not safe."""
    settings = bot.settings().web
    check_host(settings)
    access = Access(
        operator_token=operator_token(settings, token_file),
        chat_token=settings.chat_token.get_secret_value() if settings.chat_token else None,
        free_chat=True,
        clock=time.time,
    )
    rooms, feed = Rooms(time.time), Feed()
    metrics = Metrics(lambda: gauges(bot.models))
    bot.observers.extend((rooms, feed, metrics))
    bot.messages.register(PLATFORM, rooms.open_delivery)
    site = build_site(
        SiteParts(
            access=access,
            bot_name=bot.settings().persona.name,
            chat=_chat_api(bot, rooms).routes(),
            operator=_operator_pages(bot, feed),
            for_machines=[("/metrics", metrics.page)],
            ready=lambda: anyone_usable(bot.models),
            allowed_hosts=settings.allowed_hosts,
            vision=bot.settings().vision.enabled,
        )
    )
    async with WebServer(site, settings.host, settings.port) as server:
        try:
            yield WebPage(server.url, f"{server.url}/login?code={access.new_link_code()}")
        finally:
            # Pages that listen would keep the server from ending.
            rooms.close()
            feed.close()


def _chat_api(bot: Bot, rooms: Rooms) -> ChatApi:
    store = bot.messages.store
    return ChatApi(bot.messages, store, rooms, clock=time.time, eyes=bot.sight.for_web)


def _operator_pages(bot: Bot, feed: Feed) -> list[Route]:
    if bot.ledger is None:
        return []
    desk = Desk(
        candidates=lambda: candidate_views(bot.models),
        ledger=bot.ledger,
        feed=feed,
        switches=Switches(
            reload=bot.reload,
            reset=bot.models.reset,
            level=lambda: bot.logs.level,
            # The page checks the word before it gets here.
            set_level=lambda level: bot.logs.set_level(cast("Level", level)),
        ),
        clock=time.time,
        bot_name=bot.settings().persona.name,
    )
    return OperatorPages(desk).routes()
