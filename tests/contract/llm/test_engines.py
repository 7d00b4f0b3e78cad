"""One contract for every engine, each played back from what its real server sent."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping

import pytest
from msgspec import structs

from contract.llm.rows import CHAT, ROWS, Failure, GoodReply, Look, Row
from playback import RECORDED, Playback, load, playing, recordings_of
from ready_model import ReadyModels
from understudy.config.providers import NamedServer
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.client import Exchange, LLMClient, Phase, stream_events
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import (
    ChatEvent,
    ChatRequest,
    Finished,
    ImagePart,
    Message,
    ReasoningDelta,
    TextDelta,
    TextPart,
)
from understudy.llm.registry import ENGINES, build_client
from waiting import LIMIT_S

KEY = "sk-contract-0123456789"
ASKED = ChatRequest((Message("user", (TextPart("the cat and the dog"),)),), max_tokens=40)
PICTURE = ImagePart(b"\xff\xd8 a picture", "image/jpeg", 8, 8, "cat.jpg", "d")


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


def client_of(
    row: Row, playback: Playback, sessions: HttpSessions, entry: Mapping[str, object]
) -> LLMClient:
    fields = {"engine": row.engine, "base_url": playback.url, "max_tokens": 40} | dict(entry)
    server = NamedServer.model_validate(fields)
    models = ReadyModels(playback.url, KEY)
    return build_client(row.engine, server, sessions=sessions, key=KEY, builtin=models)


async def heard(
    client: LLMClient, request: ChatRequest = ASKED, exchange: Exchange | None = None
) -> list[ChatEvent]:
    return [event async for event in stream_events(client, request, "m", exchange or Exchange())]


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def each(kind: str) -> list[object]:
    return [
        pytest.param(row, item, id=f"{row.engine}-{getattr(item, 'case', None) or number}")
        for row in ROWS
        for number, item in enumerate(getattr(row, kind))
    ]


@pytest.mark.parametrize(("row", "reply"), each("replies"))
async def test_a_reply_is_streamed_to_its_end(
    row: Row, reply: GoodReply, sessions: HttpSessions
) -> None:
    exchange = Exchange()
    async with playing(recordings_of(row.folder, (reply.case, *reply.also))) as playback:
        client = client_of(row, playback, sessions, dict(reply.entry))
        asked = structs.replace(ASKED, max_tokens=reply.max_tokens)
        events = await heard(client, asked, exchange)
        await client.aclose()

    assert text_of(events).startswith(reply.starts)
    assert text_of(events)
    assert any(isinstance(event, ReasoningDelta) for event in events) is reply.thinks
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, exchange.phase) == (reply.reason, Phase.DONE)
    assert [event for event in events if isinstance(event, Finished)] == events[-1:]
    if reply.usage is not None:
        assert events[-1].usage == reply.usage
    assert exchange.keepalives >= reply.keepalives


@pytest.mark.parametrize(("row", "failure"), each("failures"))
async def test_a_failure_has_its_class(row: Row, failure: Failure, sessions: HttpSessions) -> None:
    async with playing(recordings_of(row.folder, (failure.case,))) as playback:
        client = client_of(row, playback, sessions, dict(failure.entry))
        with pytest.raises(ProviderError) as caught:
            await heard(client)
        await client.aclose()
        chats = [asked for asked in playback.asked if asked.line == CHAT]

    error = caught.value
    assert error.error_class is failure.error_class
    assert (error.scope, error.n_ctx) == (failure.scope, failure.n_ctx)
    assert error.parameter == failure.parameter
    assert len(chats) == 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.engine)
async def test_leaving_in_the_middle_closes_the_connection(
    row: Row, sessions: HttpSessions
) -> None:
    reply = row.replies[0] if row.engine != "openai" else row.replies[1]
    recordings = recordings_of(row.folder, (reply.case, *reply.also))
    async with playing(recordings, held=CHAT) as playback:
        client = client_of(row, playback, sessions, {})
        task = asyncio.create_task(heard(client))
        await playback.until_asked(CHAT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        async with asyncio.timeout(LIMIT_S):
            await playback.left.wait()
        await client.aclose()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.engine)
async def test_nobody_there_is_refused(row: Row, sessions: HttpSessions) -> None:
    async with playing({}) as playback:
        client = client_of(row, playback, sessions, {})
    with pytest.raises(ProviderError) as caught:
        await heard(client)
    report = await client.probe("m")
    await client.aclose()

    assert caught.value.error_class is ErrorClass.CONNECT_REFUSED
    assert "nothing listens" in report.advice


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.engine)
async def test_what_is_sent_holds_the_prompt_the_picture_the_key_and_no_null(
    row: Row, sessions: HttpSessions
) -> None:
    reply = row.replies[0]
    request = ChatRequest(
        (
            Message("system", (TextPart("You are a cat."),)),
            Message("user", (TextPart("Who is this?"), PICTURE)),
        ),
        max_tokens=40,
        temperature=0.5,
    )
    async with playing(recordings_of(row.folder, (reply.case, *reply.also))) as playback:
        client = client_of(row, playback, sessions, {})
        await heard(client, request)
        await client.aclose()
        asked = await playback.until_asked(CHAT)

    members = asked.members
    url = "data:image/jpeg;base64," + base64.b64encode(PICTURE.data).decode()
    assert members["messages"] == [
        {"role": "system", "content": "You are a cat."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Who is this?"},
                {"type": "image_url", "image_url": {"url": url}},
            ],
        },
    ]
    assert (members["stream"], members["max_tokens"], members["temperature"]) == (True, 40, 0.5)
    assert None not in members.values()
    assert asked.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(("row", "look"), each("looks"))
async def test_a_probe_finds_out_what_the_server_tells(
    row: Row, look: Look, sessions: HttpSessions
) -> None:
    async with playing(recordings_of(row.folder, look.cases)) as playback:
        client = client_of(row, playback, sessions, dict(look.entry))
        report = await client.probe(str(dict(look.entry).get("name", "m")))
        chats = [asked for asked in playback.asked if asked.line == CHAT]

    assert report.state is look.state
    assert not look.model or report.model == look.model
    assert (report.context_length, report.vision) == (look.n_ctx, look.vision)
    assert look.advice in report.advice
    assert bool(report.advice) == bool(look.advice or look.state.value != "ready")
    assert chats == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.engine)
async def test_tokens_are_counted_where_the_server_counts_them(
    row: Row, sessions: HttpSessions
) -> None:
    cases = (row.counted[0],) if row.counted else ()
    async with playing(recordings_of(row.folder, cases)) as playback:
        counted = await client_of(row, playback, sessions, {}).count_tokens(ASKED, "m")

    assert counted == (row.counted[1] if row.counted else None)


async def test_an_abandoned_koboldcpp_is_told_by_key_to_stop(sessions: HttpSessions) -> None:
    recordings = recordings_of("koboldcpp", ("reply", "abort"))
    async with playing(recordings, held=CHAT) as playback:
        row = next(row for row in ROWS if row.engine == "koboldcpp")
        client = client_of(row, playback, sessions, {})
        stream = stream_events(client, ASKED, "m", Exchange())
        await anext(stream)
        await stream.aclose()
        abort = await playback.until_asked("POST /api/extra/abort")
        await client.aclose()
        chat = await playback.until_asked(CHAT)

    assert abort.members["genkey"] == chat.members["genkey"]


async def test_only_thoughts_leave_no_text(sessions: HttpSessions) -> None:
    async with playing(recordings_of("openrouter", ("only_thoughts",))) as playback:
        events = await heard(client_of(ROWS[0], playback, sessions, {}))

    assert text_of(events) == ""
    assert isinstance(events[0], ReasoningDelta)


def test_every_engine_has_a_row() -> None:
    assert {row.engine for row in ROWS} == set(ENGINES)


def test_every_recording_is_replayed() -> None:
    recorded = {(path.parent.name, path.stem) for path in RECORDED.glob("*/*.json")}

    assert recorded == {(row.folder, case) for row in ROWS for case in row.cases}


def test_recordings_hold_no_key_and_no_place_of_a_machine() -> None:
    for path in RECORDED.glob("*/*.json"):
        text = path.read_text()
        assert not any(mark in text for mark in ("/home/", "/root/", "Bearer ", "sk-")), path
        allowed = {"content-type", "retry-after", "x-request-id", "x-generation-id"}
        assert set(load(path.parent.name, path.stem).headers) <= allowed, path
