"""A built-in model in an order: what the router makes of loading, killing and a crowd."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from reply_events import reply_events
from tiny_model import make_tiny_model
from understudy.app.models import ReloadableRouter
from understudy.config.load import parse_config
from understudy.config.masking import as_yaml
from understudy.llm.messages import ChatRequest, Message, TextDelta, TextPart
from understudy.rehearsal.server import RehearsalServer
from understudy.routing.environment import RouterEnvironment
from understudy.routing.records import ReplyOutcome, ReplyRecord
from understudy.routing.request import Fit, Prompt, ReplyEnded, ReplyRequest
from waiting import LIMIT_S


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", ends=False)


@asynccontextmanager
async def routing(
    tiny: Path, *order: str, others: Mapping[str, object] | None = None, **own: object
) -> AsyncIterator[ReloadableRouter]:
    entry = {"engine": "builtin", "model": str(tiny), "context_length": 512, "threads": 1} | own
    servers = {"own": entry} | dict(others or {})
    text = as_yaml({"model": {"provider_order": list(order), "servers": servers}})
    router = ReloadableRouter(parse_config(text, {}), RouterEnvironment())
    try:
        yield router
    finally:
        await router.aclose()


async def reply(
    router: ReloadableRouter,
    *,
    channel: str = "c",
    tokens: int = 8,
    on_text: Callable[[], None] = lambda: None,
) -> ReplyRecord:
    def build(_: Fit) -> Prompt:
        asked = ChatRequest((Message("user", (TextPart("the cat"),)),), max_tokens=tokens)
        return Prompt(asked, 20)

    request = ReplyRequest("r", "web", build, queue_key=channel)
    async with aclosing(reply_events(router.reply, request)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                on_text()
            if isinstance(event, ReplyEnded):
                return event.record
    raise AssertionError


async def until_it_answers(router: ReloadableRouter) -> None:
    async with asyncio.timeout(LIMIT_S):
        while (await reply(router)).attempts[-1].provider != "own":  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def process() -> psutil.Process | None:
    for child in psutil.Process().children():
        if child.status() != psutil.STATUS_ZOMBIE and "-P" in child.cmdline():
            return child
    return None


def attempts(record: ReplyRecord) -> list[tuple[str, str | None]]:
    return [(one.provider, one.error_class and one.error_class.value) for one in record.attempts]


async def test_while_it_loads_the_next_server_answers_at_once(tiny: Path) -> None:
    async with RehearsalServer() as other:
        others = {"other": {"engine": "openai", "base_url": other.base_url}}
        async with routing(tiny, "own", "other", others=others) as router:
            record = await reply(router)

    assert attempts(record) == [("own", "loading"), ("other", None)]


async def test_as_the_last_it_is_waited_for_and_answers_where_all_others_fail(tiny: Path) -> None:
    async with RehearsalServer("e500") as other:
        others = {"other": {"engine": "openai", "base_url": other.base_url}}
        async with routing(tiny, "other", "own", others=others) as router:
            record = await reply(router)

    assert attempts(record) == [("other", "server_error"), ("own", None)]


async def test_a_kill_in_mid_reply_fails_over_and_it_is_back_soon(tiny: Path) -> None:
    def kill() -> None:
        if (running := process()) is not None:
            running.kill()

    async with RehearsalServer() as other:
        others = {"other": {"engine": "openai", "base_url": other.base_url}}
        long = {"preload": True, "context_length": 4096}
        async with routing(tiny, "own", "other", others=others, **long) as router:
            await until_it_answers(router)
            broken = await reply(router, tokens=3500, on_text=kill)
            await until_it_answers(router)

    assert attempts(broken)[-2:] == [("own", "truncated_stream"), ("other", None)]


async def test_a_changed_configuration_ends_the_old_process(tiny: Path) -> None:
    async with routing(tiny, "own") as router:
        await reply(router)
        before = process()
        servers = {"own": {"engine": "builtin", "model": str(tiny)}}
        text = as_yaml({"model": {"provider_order": ["own"], "servers": servers}})
        router.use(parse_config(text, {}))
        record = await reply(router)
        assert before is not None
        await asyncio.to_thread(before.wait, 10)

    assert record.outcome is ReplyOutcome.DELIVERED


@pytest.mark.slow
async def test_a_crowd_is_served_in_turn_and_nothing_grows(tiny: Path) -> None:
    done: list[tuple[int, int]] = []

    async def conversation(router: ReloadableRouter, number: int, rounds: int) -> None:
        for turn in range(rounds):
            record = await reply(router, channel=f"channel {number}", tokens=6)
            assert record.outcome is ReplyOutcome.DELIVERED, attempts(record)
            done.append((turn, number))

    async with routing(tiny, "own", queue_length=64, queue_timeout_seconds=60) as router:
        await asyncio.gather(*(conversation(router, number, 5) for number in range(20)))
        turns = [turn for turn, _ in done]
        running, bot = process(), psutil.Process()
        assert running is not None
        before = running.memory_info().rss, bot.num_fds()
        await asyncio.gather(*(conversation(router, number, 25) for number in range(20)))
        after = running.memory_info().rss, bot.num_fds()

    # No channel is a whole round ahead of another.
    assert all(abs(turn - position // 20) <= 1 for position, turn in enumerate(turns))
    assert len(done) == 600
    assert after[0] - before[0] < 20_000_000
    assert after[1] <= before[1] + 4
