"""A genuine llama.cpp server in front of a fallback: what the router makes of its refusals and of
its death."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from llama_server import llama_server, mortal_llama_server
from playback import load, playing, recordings_of
from reply_events import Restarted, RouterEvent, reply_events
from tiny_model import make_tiny_model
from understudy.config.providers import NamedServer
from understudy.conversation.inbox import Line
from understudy.conversation.messages import Author
from understudy.conversation.prompt.builder import PromptSource, build_prompt
from understudy.conversation.prompt.persona_prompt import PersonaPrompt
from understudy.errors import ErrorClass
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, ImagePart, Message, TextPart
from understudy.llm.registry import build_client
from understudy.rehearsal.server import RehearsalServer
from understudy.routing.candidates import Candidate
from understudy.routing.records import AttemptRole, OfflineReason, ReplyOutcome
from understudy.routing.request import Fit, Prompt, ReplyEnded, ReplyRequest, SinkKind
from understudy.routing.router import ModelRouter
from waiting import LIMIT_S

CONTEXT = 512
FALLBACK = "The understudy says the whole line instead."
ME, YOU = Author("me", "Ada"), Author("you", "Understudy", is_bot=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", ends=False)


@pytest.fixture(scope="module")
def home(model: Path) -> Iterator[str]:
    with llama_server(model, context=CONTEXT) as url:
        yield url


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


@pytest.fixture
async def fallback() -> AsyncIterator[RehearsalServer]:
    async with RehearsalServer(f"say:{FALLBACK}") as server:
        yield server


def candidate(
    provider: str, url: str, sessions: HttpSessions, engine: str = "llama.cpp"
) -> Candidate:
    entry = NamedServer.model_validate({"engine": engine, "base_url": url})
    client = build_client(provider, entry, sessions=sessions)
    return Candidate(
        provider, "", provider, engine, client, endpoint=url, local=True, reply_tokens=40
    )


def asking(*parts: TextPart | ImagePart, max_tokens: int = 8) -> ChatRequest:
    return ChatRequest((Message("user", parts),), max_tokens=max_tokens)


def fixed(request: ChatRequest) -> Prompt:
    return Prompt(request, input_tokens=10)


async def heard(
    router: ModelRouter, request: ReplyRequest, kind: SinkKind = SinkKind.EDITABLE
) -> list[RouterEvent]:
    async with contextlib.aclosing(reply_events(router.reply, request, kind)) as events:
        return [event async for event in events]


def ended(events: Sequence[RouterEvent]) -> ReplyEnded:
    assert isinstance(events[-1], ReplyEnded)
    return events[-1]


def story(end: ReplyEnded) -> list[str]:
    return [f"{a.provider} {a.skip_reason or a.error_class or 'ok'}" for a in end.record.attempts]


def long_conversation() -> PromptSource:
    """Some 1,000 tokens of history: twice what the server has room for."""
    lines = tuple(
        Line(
            n, n, ("user", "assistant")[n % 2], str(n), (ME, YOU)[n % 2], "the cat and dog " * 6, 0
        )
        for n in range(41)
    )
    return PromptSource(
        stage=lambda _fit: PersonaPrompt("You speak."),
        bot_name="Understudy",
        lines=lines,
        current=frozenset((40,)),
        shared=False,
        most_tokens=100_000,
    )


async def test_a_conversation_too_long_is_built_again_for_the_context_the_server_named(
    home: str, sessions: HttpSessions, fallback: RehearsalServer
) -> None:
    router = ModelRouter(
        [candidate("home", home, sessions), candidate("next", fallback.base_url, sessions)]
    )
    source, fits = long_conversation(), list[Fit]()

    def build(fit: Fit) -> Prompt:
        fits.append(fit)
        return build_prompt(source, fit)

    request = ReplyRequest("r", "discord", build)
    first = ended(await heard(router, request))
    second = ended(await heard(router, request))

    assert story(first) == ["home context_overflow", "home ok"]
    assert first.record.attempts[1].role is AttemptRole.SHRINK_RETRY
    assert [fit.n_ctx for fit in fits] == [None, *[CONTEXT] * (len(fits) - 1)]
    assert story(second) == ["home ok"]
    assert first.record.winner is not None
    assert first.record.winner.usage is not None
    assert CONTEXT // 2 < first.record.winner.usage.input_tokens < CONTEXT
    assert fallback.calls == 0


@pytest.mark.parametrize("kind", [SinkKind.APPEND_ONLY, SinkKind.HELD])
async def test_a_clients_prompt_too_long_goes_to_the_next_and_is_not_sent_again(
    kind: SinkKind, home: str, sessions: HttpSessions, fallback: RehearsalServer
) -> None:
    router = ModelRouter(
        [candidate("home", home, sessions), candidate("next", fallback.base_url, sessions)]
    )
    long = Prompt(asking(TextPart("the cat " * 800)), input_tokens=1600)
    request = ReplyRequest("r", "gateway", lambda _fit: long, may_trim_prompt=False)

    first, second = [ended(await heard(router, request, kind)) for _ in range(2)]

    assert first.text == second.text == FALLBACK
    assert story(first) == ["home context_overflow", "next ok"]
    assert story(second) == ["home context", "next ok"]
    assert fallback.last_body["messages"] == [{"role": "user", "content": "the cat " * 800}]


async def test_a_clients_prompt_that_fits_nowhere_is_said_so(
    home: str, sessions: HttpSessions
) -> None:
    router = ModelRouter([candidate("home", home, sessions)])
    long = fixed(asking(TextPart("the cat " * 800)))
    request = ReplyRequest("r", "gateway", lambda _fit: long, may_trim_prompt=False)

    end = ended(await heard(router, request))

    assert end.record.offline_reason is OfflineReason.TOO_LONG
    assert end.error_class is ErrorClass.CONTEXT_OVERFLOW


async def test_a_picture_goes_to_the_next_who_may_see_and_the_blind_one_is_not_asked_twice(
    home: str, sessions: HttpSessions, fallback: RehearsalServer
) -> None:
    router = ModelRouter(
        [
            candidate("home", home, sessions),
            candidate("next", fallback.base_url, sessions, "openai"),
        ]
    )
    drawn = io.BytesIO()
    Image.new("RGB", (28, 28), "red").save(drawn, "PNG")
    picture = ImagePart(drawn.getvalue(), "image/png", 28, 28, "red.png", "d")

    def build(fit: Fit) -> Prompt:
        shown = (picture,) if fit.vision else ()
        return Prompt(asking(TextPart("what is this"), *shown), 300, images=len(shown))

    request = ReplyRequest("r", "discord", build, images=1)
    first, second = [ended(await heard(router, request)) for _ in range(2)]

    assert first.text == second.text == FALLBACK
    assert story(first) == ["home unsupported_input", "next ok"]
    assert story(second) == ["home capability", "next ok"]
    assert (first.degraded, second.degraded) == ((), ())


async def test_when_nobody_else_is_left_the_blind_one_is_asked_without_the_picture(
    home: str, sessions: HttpSessions, fallback: RehearsalServer
) -> None:
    fallback.play("e503")
    router = ModelRouter(
        [
            candidate("home", home, sessions),
            candidate("next", fallback.base_url, sessions, "openai"),
        ]
    )
    picture = ImagePart(b"\x89PNG\r\n\x1a\n", "image/png", 1, 1, "dot.png", "d")

    def build(fit: Fit) -> Prompt:
        shown = (picture,) if fit.vision else ()
        return Prompt(asking(TextPart("what is this"), *shown), 300, images=len(shown))

    end = ended(await heard(router, ReplyRequest("r", "discord", build, images=1)))

    assert story(end) == ["home unsupported_input", "next overloaded", "home ok"]
    assert end.degraded == ("images",)


async def speaking(url: str) -> None:
    """Wait until the server is in the middle of an answer."""
    async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession() as http:
        decoded = 0
        while decoded < 20:
            async with http.get(f"{url}/slots") as answer:
                slots = await answer.json()
            steps = (step for slot in slots for step in slot.get("next_token", ()))
            decoded = max((step["n_decoded"] for step in steps), default=0)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", SinkKind)
async def test_killed_in_mid_stream_it_is_replaced_or_its_end_is_told(
    kind: SinkKind, model: Path, sessions: HttpSessions, fallback: RehearsalServer
) -> None:
    prompt = fixed(asking(TextPart("the cat"), max_tokens=1900))
    request = ReplyRequest("r", "web", lambda _fit: prompt)
    with mortal_llama_server(model) as server:
        router = ModelRouter(
            [
                candidate("home", server.url, sessions),
                candidate("next", fallback.base_url, sessions),
            ]
        )
        reply = asyncio.create_task(heard(router, request, kind))
        await speaking(server.url)
        server.process.kill()
        await asyncio.to_thread(server.process.wait)
        seen = await reply
        after = [ended(await heard(router, request, kind)) for _ in range(2)]
        await router.memory.aclose()

    end, part = ended(seen), kind is SinkKind.APPEND_ONLY
    broke = end.record.attempts[0]
    assert broke.error_class is ErrorClass.TRUNCATED_STREAM
    assert (end.text == FALLBACK) != part
    assert [type(event) for event in seen].count(Restarted) == (kind is SinkKind.EDITABLE)
    assert end.record.outcome is (ReplyOutcome.PARTIAL if part else ReplyOutcome.DELIVERED)
    assert (end.error_class is ErrorClass.TRUNCATED_STREAM) == part
    assert not part or (FALLBACK not in end.text and end.text)
    assert [story(one) for one in after] == [
        ["home connect_refused", "next ok"],
        ["home cooldown", "next ok"],
    ]


@pytest.mark.parametrize("kind", SinkKind)
async def test_one_that_is_still_loading_costs_nobody_time(
    kind: SinkKind, sessions: HttpSessions, fallback: RehearsalServer
) -> None:
    prompt = fixed(asking(TextPart("the cat")))
    request = ReplyRequest("r", "web", lambda _fit: prompt)
    loading = load("llama.cpp", "loading")
    recordings = {loading.request: loading, "POST /v1/chat/completions": loading}
    async with playing(recordings | recordings_of("llama.cpp", ("health_loading",))) as server:
        router = ModelRouter(
            [
                candidate("home", server.url, sessions),
                candidate("next", fallback.base_url, sessions),
            ]
        )
        first, second = [ended(await heard(router, request, kind)) for _ in range(2)]
        await router.memory.aclose()

    assert first.text == second.text == FALLBACK
    assert story(first) == ["home loading", "next ok"]
    assert story(second) == ["home cooldown", "next ok"]
