"""One attempt over real HTTP, against a stand-in server with every fault by name."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from understudy.config.providers import NamedServer
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.client import Exchange, LLMClient, Phase, ProbeState, stream_events
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import (
    ChatEvent,
    ChatRequest,
    Finished,
    Message,
    ReasoningDelta,
    TextDelta,
    TextPart,
    ToolCallDelta,
    UsageSource,
)
from understudy.llm.openai_client import OpenAIClient
from understudy.llm.registry import build_client
from understudy.rehearsal.server import Cast, RehearsalServer

ASKED = ChatRequest((Message("user", (TextPart("Good evening"),)),))


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


def client_of(server: RehearsalServer, sessions: HttpSessions, **more: object) -> LLMClient:
    entry = NamedServer.model_validate({"base_url": server.base_url} | more)
    return build_client("stand-in", entry, sessions=sessions, key="sk-test-key-1")


async def converse(client: LLMClient, exchange: Exchange | None = None) -> list[ChatEvent]:
    return [
        e async for e in stream_events(client, ASKED, "rehearsal/eliza", exchange or Exchange())
    ]


async def listen(client: LLMClient, heard: list[ChatEvent]) -> None:
    async for event in stream_events(client, ASKED, "m", Exchange()):
        heard.append(event)  # noqa: PERF401 - what came before a failure must stay


def said(events: list[ChatEvent]) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta))


async def test_a_reply_arrives_with_its_end_usage_and_story(sessions: HttpSessions) -> None:
    exchange = Exchange()
    async with RehearsalServer("say:Good evening to you") as server:
        events = await converse(client_of(server, sessions), exchange)

    assert said(events) == "Good evening to you"
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, exchange.phase) == ("stop", Phase.DONE)
    assert events[-1].usage is not None
    assert events[-1].usage.source is UsageSource.REPORTED
    assert exchange.http_status == 200
    assert exchange.model_served == "rehearsal/eliza"
    assert exchange.headers_s is not None
    assert exchange.connect_s is not None


async def test_a_frame_that_holds_one_thing_is_kept_as_it_came(sessions: HttpSessions) -> None:
    async with RehearsalServer("say:one two") as server:
        events = await converse(client_of(server, sessions))

    frames = [frame for e in events if isinstance(e, TextDelta) for frame in e.frames]
    assert len(frames) >= 2
    assert all(frame.startswith(b'{"id"') for frame in frames)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ("e400", ErrorClass.BAD_REQUEST),
        ("e401", ErrorClass.AUTH),
        ("e402", ErrorClass.QUOTA),
        ("e403mod", ErrorClass.CONTENT_POLICY),
        ("e404", ErrorClass.MODEL_GONE),
        ("e404img", ErrorClass.UNSUPPORTED_INPUT),
        ("e400param", ErrorClass.UNSUPPORTED_PARAM),
        ("e413", ErrorClass.PAYLOAD_TOO_LARGE),
        ("e429", ErrorClass.RATE_LIMITED),
        ("e500", ErrorClass.SERVER_ERROR),
        ("e503", ErrorClass.OVERLOADED),
        ("loading", ErrorClass.LOADING),
        ("ctx", ErrorClass.CONTEXT_OVERFLOW),
        ("redirect", ErrorClass.BAD_BODY),
        ("html", ErrorClass.BAD_BODY),
        ("err200", ErrorClass.RATE_LIMITED),
        ("nochoices", ErrorClass.EMPTY_REPLY),
        ("firsterr", ErrorClass.SERVER_ERROR),
        ("miderr", ErrorClass.SERVER_ERROR),
        ("bareerr", ErrorClass.SERVER_ERROR),
        ("cut", ErrorClass.TRUNCATED_STREAM),
        ("cleancut", ErrorClass.TRUNCATED_STREAM),
        ("halfframe", ErrorClass.TRUNCATED_STREAM),
        ("reset", ErrorClass.TRUNCATED_STREAM),
    ],
)
async def test_every_failure_has_its_class(
    sessions: HttpSessions, behaviour: str, expected: ErrorClass
) -> None:
    async with RehearsalServer(behaviour) as server:
        with pytest.raises(ProviderError) as caught:
            await converse(client_of(server, sessions))

        assert caught.value.error_class is expected
        assert server.calls == 1


async def test_words_before_a_failure_are_heard(sessions: HttpSessions) -> None:
    heard: list[ChatEvent] = []
    async with RehearsalServer("miderr") as server:
        with pytest.raises(ProviderError):
            await listen(client_of(server, sessions), heard)

    assert len(said(heard).split()) == 5


async def test_one_bad_frame_is_skipped_and_counted(sessions: HttpSessions) -> None:
    exchange = Exchange()
    async with RehearsalServer("badjson") as server:
        events = await converse(client_of(server, sessions), exchange)

    assert said(events)
    assert exchange.bad_frames == 1


async def test_comments_and_pings_are_counted_as_no_output(sessions: HttpSessions) -> None:
    exchange = Exchange()
    async with RehearsalServer("chatty") as server:
        events = await converse(client_of(server, sessions), exchange)

    assert isinstance(events[-1], Finished)
    assert exchange.keepalives >= 1


async def test_thoughts_and_tool_calls_keep_their_kind(sessions: HttpSessions) -> None:
    async with RehearsalServer("think") as thinker, RehearsalServer("tool") as worker:
        thoughts = await converse(client_of(thinker, sessions))
        calls = await converse(client_of(worker, sessions))

    assert isinstance(thoughts[1], ReasoningDelta)
    assert [e.name for e in calls if isinstance(e, ToolCallDelta) and e.name] == ["look_up"]
    assert isinstance(calls[-1], Finished)
    assert calls[-1].reason == "tool_calls"


async def test_nobody_listens_is_refused_and_comes_with_no_retry(sessions: HttpSessions) -> None:
    async with RehearsalServer() as server:
        client = client_of(server, sessions)
    with pytest.raises(ProviderError) as caught:
        await converse(client)

    assert caught.value.error_class is ErrorClass.CONNECT_REFUSED


async def test_leaving_closes_the_connection_at_once(sessions: HttpSessions) -> None:
    async with RehearsalServer("midstall") as server:
        stream = stream_events(client_of(server, sessions), ASKED, "m", Exchange())
        await anext(stream)
        await stream.aclose()

        await server.until(lambda seen: len(seen.disconnects) == 1)


async def test_being_cancelled_before_any_answer_closes_too(sessions: HttpSessions) -> None:
    async with RehearsalServer("silent") as server:
        task = asyncio.create_task(converse(client_of(server, sessions)))
        await server.until(lambda seen: seen.in_flight == 1)
        task.cancel()

        await server.until(lambda seen: len(seen.disconnects) == 1)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_connections_are_reused_and_said_to_be(sessions: HttpSessions) -> None:
    first, second = Exchange(), Exchange()
    async with RehearsalServer() as server:
        client = client_of(server, sessions)
        await converse(client, first)
        await converse(client, second)

    assert (first.reused_connection, second.reused_connection) == (False, True)


async def test_a_reused_connection_that_died_is_stale(sessions: HttpSessions) -> None:
    async with RehearsalServer() as server:
        client = client_of(server, sessions)
        await converse(client)
        server.play("reset")
        with pytest.raises(ProviderError) as caught:
            await converse(client)

    assert caught.value.error_class is ErrorClass.STALE_CONNECTION


async def test_the_body_holds_what_is_set_and_no_nulls(sessions: HttpSessions) -> None:
    async with RehearsalServer() as server:
        client = client_of(server, sessions, temperature=0.5, extra_body={"top_k": 7})
        request = ChatRequest(
            ASKED.messages,
            max_tokens=20,
            stop=("", "END"),
            extra=b'{"model": "other", "seed": 1, "n": 3, "stream": false, "temperature": 0.9,'
            b'"stream_options": {"include_usage": false}}',
        )
        async for _ in stream_events(client, request, "m", Exchange()):
            pass
        body, headers = server.last_body, server.seen.asked[-1].headers

    assert body == {
        "temperature": 0.9,
        "top_k": 7,
        "max_tokens": 20,
        "stop": ["END"],
        "seed": 1,
        "messages": [{"role": "user", "content": "Good evening"}],
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert headers["authorization"] == "Bearer sk-test-key-1"
    assert "cookie" not in headers


async def test_a_refused_field_is_left_out(sessions: HttpSessions) -> None:
    async with RehearsalServer() as server:
        client = client_of(server, sessions, temperature=0.5)
        request = ChatRequest(ASKED.messages, omit=("temperature", "stream_options"))
        async for _ in stream_events(client, request, "m", Exchange()):
            pass

        assert set(server.last_body) == {"messages", "model", "stream"}


async def test_a_probe_reads_the_model_list(sessions: HttpSessions) -> None:
    async with RehearsalServer(cast=Cast(vision=True, api_key="sk-test-key-1")) as server:
        client = client_of(server, sessions)
        good, gone = await client.probe("rehearsal/eliza"), await client.probe("rehearsal/elisa")

    assert (good.state, good.context_length, good.vision) == (ProbeState.READY, 8192, True)
    assert gone.state is ProbeState.MODEL_MISSING
    assert "rehearsal/eliza" in gone.advice


async def test_a_probe_tells_a_refused_key_and_a_closed_door(sessions: HttpSessions) -> None:
    async with RehearsalServer(cast=Cast(api_key="another")) as server:
        client = client_of(server, sessions)
        refused = await client.probe("rehearsal/eliza")
    closed = await client.probe("rehearsal/eliza")

    assert refused.state is ProbeState.KEY_REFUSED
    assert (closed.state, "nothing listens" in closed.advice) == (ProbeState.UNREACHABLE, True)


async def test_all_calls_that_the_router_admits_get_a_slot(sessions: HttpSessions) -> None:
    async with RehearsalServer() as server:
        client = client_of(server, sessions, max_concurrency=300)
        assert isinstance(client, OpenAIClient)

        assert client.endpoint._slots.free == 300
