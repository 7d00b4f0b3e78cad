"""A response that has ended leaves its connection to the next request."""

from collections.abc import AsyncIterator

import pytest

from understudy.config.providers import NamedServer
from understudy.llm.client import Exchange, stream_events
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, Message, TextPart
from understudy.llm.registry import build_client
from understudy.rehearsal.server import RehearsalServer

ASKED = ChatRequest((Message("user", (TextPart("Good evening"),)),))


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("behaviour", ["ok", "e500", "nochoices", "think", "tool"])
async def test_a_connection_is_reused_however_the_reply_was(
    sessions: HttpSessions, behaviour: str
) -> None:
    exchange = Exchange()
    async with RehearsalServer(behaviour) as server:
        entry = NamedServer.model_validate({"base_url": server.base_url})
        client = build_client("stand-in", entry, sessions=sessions)
        for attempt in (Exchange(), exchange):
            try:
                async for _ in stream_events(client, ASKED, "m", attempt):
                    pass
            except Exception:  # noqa: BLE001 - only the connection matters
                pass

    assert exchange.reused_connection
