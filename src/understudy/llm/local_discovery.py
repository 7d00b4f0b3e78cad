"""Which model servers run on this machine, found by asking their usual ports."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from understudy.config.providers import Engine
from understudy.errors import NOT_JSON, ProviderError
from understudy.llm.http.endpoint import Endpoint, HttpSessions, Pool
from understudy.llm.http.reader import Answer
from understudy.llm.model_list import read_models

USUAL_PORTS = (5000, 5001, 8080, 1234, 11434, 8000)
_PRESET_BY_PORT = {1234: "lm-studio", 8000: "vllm", 5000: "tabbyapi", 11434: "ollama"}
_CONNECT_S = 0.3
_UNAUTHORISED = (401, 403)


@dataclass(frozen=True, slots=True)
class DiscoveredServer:
    """A model server that answers, usually on loopback."""

    base_url: str
    engine: Engine
    preset: str | None = None
    """For `engine: openai`."""
    model: str | None = None
    """The first of its models."""
    needs_key: bool = False

    @property
    def label(self) -> str:
        """What it is, for people."""
        model = f", model {self.model}" if self.model else ""
        return f"{self.preset or self.engine} at {self.base_url}{model}"


async def discover_servers(
    sessions: HttpSessions, ports: tuple[int, ...] = USUAL_PORTS
) -> tuple[DiscoveredServer, ...]:
    """Ask every port at once; one where nothing answers like a model server is left out."""
    addresses = (f"http://127.0.0.1:{port}" for port in ports)
    found = await asyncio.gather(*(recognise(sessions, address) for address in addresses))
    return tuple(near for near in found if near is not None)


async def recognise(
    sessions: HttpSessions, base_url: str, connect_s: float = _CONNECT_S
) -> DiscoveredServer | None:
    """The model server at an address, as a person types it; `None` where nothing answers like one.

    Raises ValueError for what is no address.
    """
    base_url = base_url if "://" in base_url else f"http://{base_url}"
    base_url = base_url.rstrip("/").removesuffix("/v1")
    port = urlsplit(base_url).port or 0
    endpoint = Endpoint(sessions, base_url, headers={}, pool=Pool(connect_s, 4.0))
    for identify in _RECOGNISERS:
        try:
            near = await identify(endpoint, port)
        except ProviderError:
            return None
        if near is not None:
            return near
    return None


async def _koboldcpp(endpoint: Endpoint, port: int) -> DiscoveredServer | None:  # noqa: ARG001
    answer = await endpoint.ask("GET", "/api/extra/version")
    if _member(answer, "result") != "KoboldCpp":
        return None
    return DiscoveredServer(endpoint.base_url, "koboldcpp", model=await _first_model(endpoint))


async def _textgen_webui(endpoint: Endpoint, port: int) -> DiscoveredServer | None:  # noqa: ARG001
    answer = await endpoint.ask("GET", "/v1/internal/health")
    refused = answer.status == 401 and _member(answer, "detail") == "Unauthorized"
    if not refused and _member(answer, "status") != "ok":
        return None
    return DiscoveredServer(
        endpoint.base_url,
        "textgen-webui",
        model=await _first_model(endpoint),
        needs_key=refused,
    )


async def _llama_cpp(endpoint: Endpoint, port: int) -> DiscoveredServer | None:  # noqa: ARG001
    answer = await endpoint.ask("GET", "/props")
    server = answer.headers.get("server", "")
    if server != "llama.cpp" and b"default_generation_settings" not in answer.body:
        return None
    return DiscoveredServer(
        endpoint.base_url,
        "llama.cpp",
        model=await _first_model(endpoint),
        needs_key=answer.status in _UNAUTHORISED,
    )


async def _openai(endpoint: Endpoint, port: int) -> DiscoveredServer | None:
    answer = await endpoint.ask("GET", "/v1/models")
    preset = _PRESET_BY_PORT.get(port)
    if answer.status in _UNAUTHORISED:
        return DiscoveredServer(endpoint.base_url, "openai", preset, needs_key=True)
    if answer.status != 200:
        return None
    models = read_models(answer.body).ids
    return DiscoveredServer(endpoint.base_url, "openai", preset, models[0] if models else None)


_RECOGNISERS: tuple[Callable[[Endpoint, int], Awaitable[DiscoveredServer | None]], ...] = (
    # The most telling first: koboldcpp answers some of the others' questions too.
    _koboldcpp,
    _textgen_webui,
    _llama_cpp,
    _openai,
)


async def _first_model(endpoint: Endpoint) -> str | None:
    try:
        models = read_models((await endpoint.ask("GET", "/v1/models")).body).ids
    except ProviderError:
        return None
    return models[0] if models else None


def _member(answer: Answer, name: str) -> object:
    try:
        found = msgspec.json.decode(answer.body)
    except NOT_JSON:
        return None
    return found.get(name) if isinstance(found, dict) else None
