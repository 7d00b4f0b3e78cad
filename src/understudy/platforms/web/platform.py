"""The web platform: a running site made from the program's dependencies."""

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Send

from understudy.config.settings import Web
from understudy.conversation.follow_ups import Answered
from understudy.conversation.inbox import Channel, InboxStore
from understudy.http_server.asgi import AsgiApplication
from understudy.http_server.auth_throttle import AuthThrottle, failures_of_one
from understudy.http_server.body_budget import BodyBudget
from understudy.http_server.refusal import refuse
from understudy.http_server.server import WebServer
from understudy.http_server.state import ClientLimits
from understudy.http_server.stream_limits import LimitedStreams, StreamLimits
from understudy.memory.store import Proposal
from understudy.network import is_loopback
from understudy.platforms.web.api import with_json_errors
from understudy.platforms.web.attempt_feed import AttemptFeed
from understudy.platforms.web.auth import Access, UseOnce, check_host, load_operator_token
from understudy.platforms.web.chat import (
    BROWSER_COOKIE,
    MAX_UPLOAD,
    ChatApi,
    FindGreeting,
    ImageActions,
    ReadFiles,
    ReplyControl,
    UploadActions,
    channel_of,
)
from understudy.platforms.web.chat_export import ChatExport
from understudy.platforms.web.config_page import ConfigActions, ConfigPage
from understudy.platforms.web.conversation_actions import ConversationActions
from understudy.platforms.web.gateway_keys import GatewayKeyActions, GatewayKeyPages
from understudy.platforms.web.live import LiveConversations
from understudy.platforms.web.memory import MemoryActions, MemoryApi
from understudy.platforms.web.operator import (
    CandidateView,
    OperatorActions,
    OperatorDependencies,
    OperatorPages,
)
from understudy.platforms.web.operator_attempts import OperatorAttempts
from understudy.platforms.web.operator_log import OperatorLog, ReadLog
from understudy.platforms.web.operator_reports import (
    OperatorReports,
    ProgramFacts,
    ReportDependencies,
)
from understudy.platforms.web.persona_choice import (
    PersonaChoice,
    PersonaChoiceApi,
    ServerChoice,
    ServerChoiceApi,
)
from understudy.platforms.web.personas import PersonaActions, PersonaPages
from understudy.platforms.web.rendering import RENDERER_LIMITS, Renderer
from understudy.platforms.web.site import Endpoint, ReadPage, SiteParts, build_site
from understudy.platforms.web.templates import PageContext
from understudy.routing.ledger import LedgerReader
from understudy.workers.pool import WorkerPool


@dataclass(frozen=True, slots=True)
class WebDependencies:
    """What the site uses of the rest of the program."""

    web: Web
    page_context: Callable[[], PageContext]
    token_file: Path
    """Stores a generated token; its folder exists."""
    replies: ReplyControl
    history: InboxStore
    ledger: LedgerReader | None
    """None: the operator's page is left out."""
    candidates: Callable[[], Sequence[CandidateView]]
    actions: OperatorActions
    ready: Callable[[], bool]
    monitoring_pages: Sequence[tuple[str, ReadPage]] = ()
    images: ImageActions | None = None
    personas: PersonaActions | None = None
    persona_choice: PersonaChoice | None = None
    memory: MemoryActions | None = None
    server_choice: ServerChoice | None = None
    read_files: ReadFiles | None = None
    facts: Callable[[], ProgramFacts] | None = None
    config: ConfigActions | None = None
    gateway_keys: GatewayKeyActions | None = None
    read_log: ReadLog | None = None
    max_connections: int = 1000
    """Limit of simultaneous connections."""
    processes: int = 1
    """How many share the port, and the limits below the connections."""
    refresh_choices: Callable[[Channel], Awaitable[None]] | None = None
    """Reads again what was chosen for a conversation, where another process may have changed it.
    Raises StorageError."""
    use_once: UseOnce | None = None
    """Records the use of login links for all processes; None in one alone."""
    clock: Callable[[], float] = time.time
    """Wall clock."""


_EVENT_PATHS = re.compile(r"/api/chats/[^/]+/events")
_MAX_HELD_BYTES = 96_000_000
"""Bodies of all requests together; the largest message has 48 MB."""


async def _refuse_attempts(send: Send, retry_after_s: int) -> None:
    await refuse(send, f"Too many wrong tokens. Try again in {retry_after_s} s.", retry_after_s)


@dataclass(slots=True)
class WebPlatform:
    """Register `live.open_delivery` with the message router, and `live` and `feed` as observers of
    attempts, before `open` is entered."""

    live: LiveConversations = field(default_factory=lambda: LiveConversations(time.time))
    feed: AttemptFeed = field(default_factory=AttemptFeed)
    url: str = ""
    """The site's address; empty while it is closed."""
    _access: Access | None = None

    def new_login_link(self) -> str:
        """A link that logs one browser in as operator, once, within the hour."""
        assert self._access is not None, "the site is not open"
        return f"{self.url}/login?code={self._access.new_link_code()}"

    async def show_proposal(self, _proposal: Proposal, answered: Answered) -> None:
        """Tell the pages of the conversation that a note was proposed."""
        self.live.note_proposed(answered.place.channel_id)

    @asynccontextmanager
    async def open(self, deps: WebDependencies) -> AsyncGenerator[None]:
        """Serve the site. Raises ConfigError for unsafe settings and for a port in use."""
        check_host(deps.web)
        self._access = _access(deps)
        processes = deps.processes
        limits = ClientLimits(connections=deps.max_connections)
        site = LimitedStreams(
            AuthThrottle(
                BodyBudget(self._site(deps), max(_MAX_HELD_BYTES // processes, MAX_UPLOAD)),
                _refuse_attempts,
                # 303 leads to the login form.
                failed=(303, 401, 403),
                login_path="/login",
                failures=failures_of_one(processes),
            ),
            StreamLimits.within(deps.max_connections // processes),
            cookie=BROWSER_COOKIE,
            paths=_EVENT_PATHS,
        )
        async with (
            WorkerPool("markdown", RENDERER_LIMITS) as pool,
            WebServer(
                AsgiApplication(site),
                deps.web.host,
                deps.web.port,
                limits=limits,
                reuse_port=processes > 1,
            ) as server,
        ):
            self.live.renderer = Renderer(pool)
            self.url = server.url
            try:
                yield
            finally:
                self.live.close()
                self.feed.close()
                self.url = ""

    def _site(self, deps: WebDependencies) -> Starlette:
        assert self._access is not None
        chat = ChatApi(
            deps.replies,
            deps.history,
            self.live,
            clock=deps.clock,
            uploads=UploadActions(deps.images, deps.read_files),
            greeting=_greeting(deps.persona_choice),
        ).routes()
        memory = deps.memory
        chat += ChatExport(deps.history, None if memory is None else memory.search).routes()
        if memory is not None:
            chat += MemoryApi(memory).routes()
        chat += ConversationActions(deps.history, deps.replies, self.live, deps.clock).routes()
        if deps.persona_choice is not None:
            chat += PersonaChoiceApi(deps.persona_choice, lambda: self.live.renderer).routes()
        if deps.server_choice is not None:
            chat += ServerChoiceApi(deps.server_choice).routes()
        if deps.refresh_choices is not None:
            chat = [_refreshing(route, deps.refresh_choices) for route in chat]
        return build_site(
            SiteParts(
                access=self._access,
                page_context=deps.page_context,
                chat=chat,
                operator=self._operator_routes(deps),
                monitoring_pages=deps.monitoring_pages,
                ready=deps.ready,
                allowed_hosts=deps.web.allowed_hosts,
            )
        )

    def _operator_routes(self, deps: WebDependencies) -> list[Route]:
        if deps.ledger is None:
            return []
        pages = OperatorPages(
            OperatorDependencies(
                deps.candidates, deps.ledger, self.feed, deps.actions, deps.clock, deps.page_context
            )
        )
        routes = pages.routes()
        routes += OperatorAttempts(deps.ledger, deps.clock).routes()
        if deps.gateway_keys is not None:
            routes += GatewayKeyPages(deps.gateway_keys, deps.ledger, deps.clock).routes()
        if deps.config is not None:
            routes += ConfigPage(deps.config).routes()
        if deps.read_log is not None:
            routes += OperatorLog(deps.read_log).routes()
        if deps.personas is not None:
            routes += PersonaPages(deps.personas).routes()
        if deps.facts is not None:
            reports = ReportDependencies(deps.ledger, deps.clock, deps.facts, self.new_login_link)
            routes += OperatorReports(reports).routes()
        return routes


def _refreshing(route: Route, refresh: Callable[[Channel], Awaitable[None]]) -> Route:
    """The route of a conversation, with its choices read first."""
    inner: Endpoint = route.endpoint
    if not route.path.startswith("/api/chats/{chat}"):
        return route

    async def refreshed(request: Request) -> Response:
        await refresh(channel_of(request))
        return await inner(request)

    methods = sorted(route.methods or {"GET"})
    return Route(route.path, with_json_errors(refreshed), methods=methods)


def _greeting(choice: PersonaChoice | None) -> FindGreeting:
    def greeting(channel: Channel, number: int) -> tuple[str, str] | None:
        if choice is None:
            return None
        persona = choice.of(channel)
        known = 0 <= number < len(persona.greetings)
        return (persona.name, persona.greetings[number]) if known else None

    return greeting


def _access(deps: WebDependencies) -> Access:
    chat_token = deps.web.chat_token
    return Access(
        operator_token=load_operator_token(deps.web, deps.token_file),
        chat_token=chat_token.get_secret_value() if chat_token is not None else None,
        free_chat=is_loopback(deps.web.host),
        clock=deps.clock,
        use_once=deps.use_once,
    )
