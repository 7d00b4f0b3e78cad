"""A gateway that really listens, over a router with real clients, over stand-in model servers."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from understudy.config.providers import Engine, NamedServer
from understudy.config.settings import Gateway as GatewaySettings
from understudy.gateway.app import Gateway
from understudy.gateway.key_limits import KeyLimits
from understudy.gateway.reply_call import Source
from understudy.http_server.server import WebServer
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.registry import build_client
from understudy.rehearsal.script import Part
from understudy.rehearsal.server import RehearsalServer
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment
from understudy.routing.router import ModelRouter
from understudy.routing.timeouts import Limits


@dataclass
class GatewayAndServers:
    url: str
    servers: tuple[RehearsalServer, ...]

    @property
    def asked(self) -> dict[str, object]:
        """What the first model server was last asked."""
        return self.servers[0].last_body


def candidate(
    name: str, server: RehearsalServer, sessions: HttpSessions, preset: str | None = None
) -> Candidate:
    return candidate_at(name, server.base_url, sessions, preset)


def candidate_at(
    name: str,
    base_url: str,
    sessions: HttpSessions,
    preset: str | None = None,
    engine: Engine = "openai",
) -> Candidate:
    settings = NamedServer(engine=engine, base_url=base_url, name="lab/model", preset=preset)
    return Candidate(
        provider=name,
        model="lab/model",
        label=name,
        engine=engine,
        client=build_client(name, settings, sessions=sessions),
        limits=Limits(first_token_s=60),
        endpoint=base_url,
        endpoint_host="127.0.0.1",
    )


@asynccontextmanager
async def gateway_and_servers(
    *parts: Part, settings: GatewaySettings | None = None, presets: Mapping[str, str] | None = None
) -> AsyncIterator[GatewayAndServers]:
    """One model server per part, named `first`, `second`, and so on, tried in that order."""
    async with AsyncExitStack() as stack:
        sessions = HttpSessions()
        stack.push_async_callback(sessions.aclose)
        servers = [await stack.enter_async_context(RehearsalServer(part)) for part in parts]
        names = ("first", "second", "third")
        candidates = [
            candidate(name, server, sessions, (presets or {}).get(name))
            for name, server in zip(names, servers, strict=False)
        ]
        url = await stack.enter_async_context(gateway_over(candidates, settings))
        yield GatewayAndServers(url, tuple(servers))


@asynccontextmanager
async def gateway_over(
    candidates: Sequence[Candidate], settings: GatewaySettings | None = None
) -> AsyncIterator[str]:
    """The gateway's base URL."""
    limits = KeyLimits()
    router = ModelRouter(candidates, instruments=RouterEnvironment(observers=(limits,)))
    async with WebServer(gateway_app(router, limits, settings), "127.0.0.1", 0) as served:
        yield f"{served.url}/v1"


def gateway_app(
    router: ModelRouter, limits: KeyLimits, settings: GatewaySettings | None = None
) -> Gateway:
    """A gateway over a router that `limits` observes, not yet served."""
    names = tuple(c.name for c in router.candidates)
    source = Source(router.reply, names, lambda _origin: True)
    return Gateway(settings or GatewaySettings(), source, limits, new_id=lambda: uuid.uuid4().hex)
