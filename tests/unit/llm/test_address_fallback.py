"""Servers whose address has a path: found with `/v1` and without."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from paged_server import PagedServer
from understudy.config.providers import NamedServer
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.client import Exchange, LLMClient, ProbeState, stream_events
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, Message, TextDelta, TextPart
from understudy.llm.registry import build_client

CHAT = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]})
MODELS = json.dumps({"data": [{"id": "m"}]})
ASK = ChatRequest((Message("user", (TextPart("hi"),)),))


@asynccontextmanager
async def client_of(server: PagedServer, path: str) -> AsyncIterator[LLMClient]:
    sessions = HttpSessions()
    async with server.listening():
        settings = NamedServer(engine="openai", base_url=f"{server.url}{path}", name="m")
        yield build_client("stage", settings, sessions=sessions)
    await sessions.aclose()


async def said(client: LLMClient) -> str:
    events = [event async for event in stream_events(client, ASK, "m", Exchange())]
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    ("written", "page"),
    [
        ("/inference", "/inference/chat/completions"),
        ("/inference/chat/completions", "/inference/chat/completions"),
        ("/llama", "/llama/v1/chat/completions"),
        ("", "/v1/chat/completions"),
    ],
)
async def test_a_chat_finds_the_right_address_and_stays_there(written: str, page: str) -> None:
    server = PagedServer({page: CHAT})
    async with client_of(server, written) as client:
        assert await said(client) == "Hi"
        server.asked.clear()
        assert await said(client) == "Hi"

    assert server.asked == [page]


async def test_the_model_list_finds_the_right_address_for_the_chats() -> None:
    server = PagedServer({"/inference/models": MODELS, "/inference/chat/completions": CHAT})
    async with client_of(server, "/inference") as client:
        report = await client.probe("m")
        assert await said(client) == "Hi"

    assert (report.state, report.model) == (ProbeState.READY, "m")
    assert server.asked[-1] == "/inference/chat/completions"
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("pages", "status", "error_class"),
    [
        ({}, 200, ErrorClass.MODEL_GONE),
        ({"/inference/chat/completions": '{"error": "Slow down"}'}, 429, ErrorClass.RATE_LIMITED),
    ],
)
async def test_what_the_server_reports_is_the_failure(
    pages: Mapping[str, str], status: int, error_class: ErrorClass
) -> None:
    async with client_of(PagedServer(pages, status), "/inference") as client:
        with pytest.raises(ProviderError) as failed:
            await said(client)

    assert failed.value.error_class is error_class
