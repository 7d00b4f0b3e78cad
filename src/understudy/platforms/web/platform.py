"""The web platform in one piece: from what the program hands in to a running site."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Route

from understudy.config.settings import Web
from understudy.http_server.connection import ClientLimits
from understudy.http_server.server import WebServer
from understudy.network import is_loopback
from understudy.platforms.web.attempt_feed import AttemptFeed
from understudy.platforms.web.auth import Access, check_host, operator_token
from understudy.platforms.web.chat import ChatApi, ConversationHistory, ImageActions, ReplyControl
from understudy.platforms.web.live import LiveConversations
from understudy.platforms.web.operator import (
    CandidateView,
    OperatorActions,
    OperatorDependencies,
    OperatorPages,
)
from understudy.platforms.web.personas import PersonaActions, PersonaPages
from understudy.platforms.web.site import ReadPage, SiteParts, build_site
from understudy.platforms.web.templates import PageContext
from understudy.routing.ledger import LedgerReader


@dataclass(frozen=True, slots=True)
class WebDependencies:
    """What the site is given of the rest of the program."""

    web: Web
    face: Callable[[], PageContext]
    token_file: Path
    """Where a token that was made here is kept; its folder is there already."""
    answers: ReplyControl
    memory: ConversationHistory
    ledger: LedgerReader | None
    """Without one there is no operator's page."""
    candidates: Callable[[], Sequence[CandidateView]]
    switches: OperatorActions
    ready: Callable[[], bool]
    for_machines: Sequence[tuple[str, ReadPage]] = ()
    eyes: ImageActions | None = None
    personas: PersonaActions | None = None
    visitors: int = 1000
    """Connections at a time."""
    clock: Callable[[], float] = time.time
    """Wall clock."""


@dataclass(slots=True)
class WebPlatform:
    """Register `rooms.open_delivery` with the message router, and `rooms` and `feed` as observers
    of attempts, before `open` is entered."""

    rooms: LiveConversations = field(default_factory=lambda: LiveConversations(time.time))
    feed: AttemptFeed = field(default_factory=AttemptFeed)
    url: str = ""
    """Where it listens; empty while it does not."""
    _access: Access | None = None

    def new_login_link(self) -> str:
        """A link that lets one browser in as operator, once, within the hour."""
        assert self._access is not None, "the site is not open"
        return f"{self.url}/login?code={self._access.new_link_code()}"

    @asynccontextmanager
    async def open(self, house: WebDependencies) -> AsyncGenerator[None]:
        """Serve until left. Raises ConfigError where the settings or the port forbid it."""
        check_host(house.web)
        self._access = _access(house)
        limits = ClientLimits(connections=house.visitors)
        site = self._site(house)
        async with WebServer(site, house.web.host, house.web.port, limits=limits) as server:
            self.url = server.url
            try:
                yield
            finally:
                self.rooms.close()
                self.feed.close()
                self.url = ""

    def _site(self, house: WebDependencies) -> Starlette:
        assert self._access is not None
        chat = ChatApi(house.answers, house.memory, self.rooms, clock=house.clock, eyes=house.eyes)
        return build_site(
            SiteParts(
                access=self._access,
                face=house.face,
                chat=chat.routes(),
                operator=_operator_routes(house, self.feed),
                for_machines=house.for_machines,
                ready=house.ready,
                allowed_hosts=house.web.allowed_hosts,
            )
        )


def _operator_routes(house: WebDependencies, feed: AttemptFeed) -> list[Route]:
    if house.ledger is None:
        return []
    desk = OperatorDependencies(
        house.candidates, house.ledger, feed, house.switches, house.clock, house.face
    )
    pages = OperatorPages(desk).routes()
    return [*pages, *(PersonaPages(house.personas).routes() if house.personas else ())]


def _access(house: WebDependencies) -> Access:
    chat_token = house.web.chat_token
    return Access(
        operator_token=operator_token(house.web, house.token_file),
        chat_token=chat_token.get_secret_value() if chat_token is not None else None,
        free_chat=is_loopback(house.web.host),
        clock=house.clock,
    )
