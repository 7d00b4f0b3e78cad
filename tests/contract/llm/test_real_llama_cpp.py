"""The llama.cpp row of the contract again, against a genuine server over a tiny model."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from PIL import Image

from llama_server import llama_server
from tiny_model import CONTEXT, make_tiny_model
from tiny_projector import make_tiny_projector
from understudy.config.providers import NamedServer
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.client import Exchange, LLMClient, ProbeState, stream_events
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import (
    ChatEvent,
    ChatRequest,
    Finished,
    ImagePart,
    Message,
    TextDelta,
    TextPart,
)
from understudy.llm.registry import build_client
from waiting import LIMIT_S


@pytest.fixture(scope="module")
def text_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", ends=False)
    with llama_server(model) as url:
        yield url


@pytest.fixture(scope="module")
def vision_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("vision")
    model = make_tiny_model(folder / "tiny.gguf", ends=False)
    with llama_server(model, projector=make_tiny_projector(folder / "mmproj.gguf")) as url:
        yield url


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


def client_of(url: str, sessions: HttpSessions, **more: object) -> LLMClient:
    entry = NamedServer.model_validate({"engine": "llama.cpp", "base_url": url} | more)
    return build_client("home", entry, sessions=sessions)


def asking(text: str, *parts: ImagePart, max_tokens: int = 6) -> ChatRequest:
    return ChatRequest((Message("user", (TextPart(text), *parts)),), max_tokens=max_tokens)


def picture() -> ImagePart:
    drawn = io.BytesIO()
    Image.new("RGB", (28, 28), "red").save(drawn, "PNG")
    return ImagePart(drawn.getvalue(), "image/png", 28, 28, "red.png", "d")


async def heard(client: LLMClient, request: ChatRequest) -> list[ChatEvent]:
    return [event async for event in stream_events(client, request, "", Exchange())]


async def test_it_speaks_counts_and_stops_at_the_limit(
    text_server: str, sessions: HttpSessions
) -> None:
    client = client_of(text_server, sessions)
    events = await heard(client, asking("the cat and the dog"))
    counted = await client.count_tokens(asking("the cat and the dog"), "")

    end = events[-1]
    assert isinstance(end, Finished)
    assert end.usage is not None
    assert (end.reason, end.usage.output_tokens) == ("length", 6)
    assert end.usage.input_tokens == counted
    assert any(isinstance(event, TextDelta) and event.text.strip() for event in events)


async def test_a_probe_finds_context_slots_and_blindness(
    text_server: str, sessions: HttpSessions
) -> None:
    report = await client_of(text_server, sessions, vision=True).probe("")

    assert (report.state, report.context_length) == (ProbeState.READY, CONTEXT)
    assert (report.vision, report.max_concurrency) == (False, 1)
    assert "--mmproj" in report.advice


async def test_too_long_a_prompt_names_the_context(
    text_server: str, sessions: HttpSessions
) -> None:
    with pytest.raises(ProviderError) as caught:
        await heard(client_of(text_server, sessions), asking("the cat " * 3000))

    assert caught.value.error_class is ErrorClass.CONTEXT_OVERFLOW
    assert caught.value.n_ctx == CONTEXT


async def test_a_picture_is_refused_loudly_without_a_projector(
    text_server: str, sessions: HttpSessions
) -> None:
    with pytest.raises(ProviderError) as caught:
        await heard(client_of(text_server, sessions), asking("what is this", picture()))

    assert caught.value.error_class is ErrorClass.UNSUPPORTED_INPUT


async def test_a_picture_is_taken_and_counted_with_one(
    vision_server: str, sessions: HttpSessions
) -> None:
    client = client_of(vision_server, sessions)
    report = await client.probe("")
    blind = await client.count_tokens(asking("what is this"), "")
    seeing = await client.count_tokens(asking("what is this", picture()), "")
    events = await heard(client, asking("what is this", picture()))

    end = events[-1]
    assert report.vision is True
    assert isinstance(end, Finished)
    assert end.usage is not None
    assert (blind or 0) < (seeing or 0) == end.usage.input_tokens


async def test_leaving_frees_the_slot(text_server: str, sessions: HttpSessions) -> None:
    stream = stream_events(
        client_of(text_server, sessions), asking("the cat", max_tokens=1900), "", Exchange()
    )
    await anext(stream)
    await stream.aclose()

    async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession() as http:
        while await _busy(http, text_server):  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.02)


async def _busy(http: aiohttp.ClientSession, url: str) -> bool:
    async with http.get(f"{url}/slots") as answer:
        return any(slot["is_processing"] for slot in await answer.json())
