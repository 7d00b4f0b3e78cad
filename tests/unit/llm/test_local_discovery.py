"""Model servers on this machine are distinguished by their answers."""

from collections.abc import AsyncIterator

import pytest

from playback import Recording, playing, recordings_of
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.local_discovery import DiscoveredServer, discover_servers

LISTED = Recording("", "GET /v1/models", 200, {}, ['{"data": [{"id": "gemma3"}]}'])
LOCKED = Recording("", "GET /v1/models", 401, {}, ['{"detail": "no"}'])
HEALTHY = Recording("", "GET /v1/internal/health", 200, {}, ['{"status": "ok"}'])
PROPS = Recording("", "GET /props", 200, {"server": "llama.cpp"}, ["{}"])
PAGE = Recording("", "GET /v1/models", 200, {"content-type": "text/html"}, ["<html>hi</html>"])


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


async def found(
    sessions: HttpSessions, recordings: dict[str, Recording]
) -> DiscoveredServer | None:
    async with playing(recordings) as playback:
        port = int(playback.url.rpartition(":")[2])
        nearby = await discover_servers(sessions, (port,))
    return nearby[0] if nearby else None


async def test_koboldcpp_is_known_by_its_version(sessions: HttpSessions) -> None:
    near = await found(sessions, recordings_of("koboldcpp", ("version", "models")))

    assert near is not None
    assert (near.engine, near.model) == ("koboldcpp", "koboldcpp/tiny")


async def test_text_generation_webui_is_known_by_its_health(sessions: HttpSessions) -> None:
    near = await found(sessions, {r.request: r for r in (HEALTHY, LISTED)})

    assert near is not None
    assert (near.engine, near.model) == ("textgen-webui", "gemma3")


async def test_llama_cpp_is_known_by_its_name(sessions: HttpSessions) -> None:
    near = await found(sessions, {r.request: r for r in (PROPS, LISTED)})

    assert near is not None
    assert near.engine == "llama.cpp"


async def test_anything_with_a_model_list_speaks_openai(sessions: HttpSessions) -> None:
    listed = await found(sessions, {LISTED.request: LISTED})
    locked = await found(sessions, {LOCKED.request: LOCKED})

    assert listed is not None
    assert (listed.engine, listed.model, listed.needs_key) == ("openai", "gemma3", False)
    assert locked is not None
    assert locked.needs_key


async def test_a_web_page_or_nobody_is_no_model_server(sessions: HttpSessions) -> None:
    assert await found(sessions, {PAGE.request: PAGE}) is None
    assert await found(sessions, {}) is None
    async with playing({}) as gone:
        port = int(gone.url.rpartition(":")[2])
    assert await discover_servers(sessions, (port,)) == ()
