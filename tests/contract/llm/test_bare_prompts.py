"""Every engine goes on from a bare prompt, or says that it cannot."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from ready_model import ReadyModels
from understudy.config.providers import NamedServer
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.client import Exchange, stream_events
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, Finished, Message, TextDelta, TextPart
from understudy.llm.presets import PRESETS
from understudy.llm.registry import ENGINES, build_client
from understudy.rehearsal.server import RehearsalServer

BARE = ChatRequest(
    (Message("user", (TextPart("Once upon"),)),),
    extra=b'{"prompt":"Once upon"}',
    raw_completion=True,
)


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


async def told(server: RehearsalServer, sessions: HttpSessions, **entry: object) -> str:
    settings = NamedServer.model_validate({"base_url": server.base_url} | entry)
    models = ReadyModels(server.base_url, "k")
    client = build_client("one", settings, sessions=sessions, key="k", builtin=models)
    async with aclosing(stream_events(client, BARE, "m", Exchange())) as events:
        heard = [event async for event in events]
    await client.aclose()
    assert isinstance(heard[-1], Finished)
    return "".join(event.text for event in heard if isinstance(event, TextDelta))


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_prompt_is_sent_as_it_is(engine: str, sessions: HttpSessions) -> None:
    async with RehearsalServer("say:a time.") as server:
        assert await told(server, sessions, engine=engine) == "a time."

        assert server.seen.asked[-1].path == "/v1/completions"
        assert (server.last_body["prompt"], "messages" in server.last_body) == ("Once upon", False)
        assert ("genkey" in server.last_body) is (engine == "koboldcpp")


async def test_a_server_that_is_sent_flattened_chats_gets_a_bare_prompt_unflattened(
    sessions: HttpSessions,
) -> None:
    async with RehearsalServer("say:a time.") as server:
        await told(server, sessions, engine="nanogpt", mode="openai_completions")

        assert server.last_body["prompt"] == "Once upon"


@pytest.mark.parametrize("status", ["e404", "e405", "e501"])
async def test_a_missing_page_is_no_missing_model(status: str, sessions: HttpSessions) -> None:
    async with RehearsalServer(status) as server:
        with pytest.raises(ProviderError) as caught:
            await told(server, sessions, engine="koboldcpp")

    assert caught.value.error_class is ErrorClass.UNSUPPORTED_INPUT


CHATS_ONLY = [
    {"engine": "openai", "preset": n}
    for n in PRESETS
    if n
    not in ("generic", "lenient", "ollama", "lm-studio", "vllm", "sglang", "tabbyapi", "together")
]


@pytest.mark.parametrize("entry", [*CHATS_ONLY, {"engine": "nanogpt", "mode": "plain_generate"}])
async def test_servers_for_chats_alone_are_not_asked(
    entry: dict[str, object], sessions: HttpSessions
) -> None:
    settings = NamedServer.model_validate({"base_url": "http://127.0.0.1:9/v1"} | entry)
    client = build_client("one", settings, sessions=sessions, key="k")

    assert not client.supports_completions
    with pytest.raises(ProviderError) as caught:
        await anext(stream_events(client, BARE, "m", Exchange()))
    assert caught.value.error_class is ErrorClass.UNSUPPORTED_INPUT
