"""The ledger holds what the servers themselves counted, and says so where they counted nothing."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import aiohttp
import pytest

from llama_server import llama_server
from playback import load, playing, recordings_of
from reply_events import reply_events
from tiny_model import make_tiny_model
from understudy.config.providers import NamedServer
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, Message, TextPart, UsageSource
from understudy.llm.registry import build_client
from understudy.observability.ledger_queue import LedgerQueue
from understudy.rehearsal.server import RehearsalServer
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment
from understudy.routing.ledger import Grouping
from understudy.routing.records import CostSource, ReplyRecord
from understudy.routing.request import Fit, Prompt, ReplyRequest, SinkKind
from understudy.routing.router import ModelRouter
from understudy.storage.database import Database
from understudy.storage.ledger import Ledger

WORDS = "the moon and the cat"
ESTIMATE = 11
"""What our own prompt builder would have thought; no server's figure."""
ASKED = ChatRequest((Message("user", (TextPart(WORDS),)),), max_tokens=12, temperature=0.0)


@pytest.fixture
async def sessions() -> AsyncGenerator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncGenerator[Ledger]:
    database = await Database.open(tmp_path / "ledger.db")
    yield Ledger(database)
    await database.aclose()


def candidate(engine: str, url: str, sessions: HttpSessions) -> Candidate:
    entry = NamedServer.model_validate({"engine": engine, "base_url": url})
    client = build_client(engine, entry, sessions=sessions, key="k")
    return Candidate(engine, "m", engine, engine, client)


def build(_: Fit) -> Prompt:
    return Prompt(ASKED, ESTIMATE)


async def stored(ledger: Ledger, *candidates: Candidate) -> ReplyRecord:
    """Ask once, and read back what the ledger has of it."""
    async with LedgerQueue(ledger) as queue:
        router = ModelRouter(candidates, instruments=RouterEnvironment(observers=(queue,)))
        request = ReplyRequest(id="r1", sink="gateway", build=build)
        async with aclosing(reply_events(router.reply, request, SinkKind.HELD)) as events:
            async for _ in events:
                pass
        await router.memory.aclose()
    (run,) = await ledger.reply("r1")
    return run


async def test_a_failed_over_reply_adds_up_to_what_the_real_engine_reports_and_the_broken_try(
    sessions: HttpSessions, ledger: Ledger, tmp_path: Path
) -> None:
    model = make_tiny_model(tmp_path / "tiny.gguf")
    with llama_server(model) as url:
        told = await reported_by(url)
        async with RehearsalServer("cut") as broken:
            run = await stored(
                ledger,
                candidate("openai", broken.base_url, sessions),
                candidate("llama.cpp", url, sessions),
            )

    cut, won = run.attempts
    assert won.usage is not None
    assert (won.usage.input_tokens, won.usage.output_tokens) == told
    assert won.usage.source is UsageSource.REPORTED
    assert (won.cost_usd, won.cost_source) == (0.0, CostSource.UNBILLED)
    assert cut.usage is not None
    assert (cut.usage.input_tokens, cut.usage.source) == (ESTIMATE, UsageSource.ESTIMATED)
    assert cut.usage.output_tokens > 0
    assert (cut.cost_usd, cut.maybe_billed) == (None, True)
    (day,) = await ledger.usage(Grouping.DAY, 0, 1e12)
    assert day.input_tokens == told[0] + ESTIMATE
    assert day.output_tokens == told[1] + cut.usage.output_tokens
    assert day.estimated_tokens == ESTIMATE + cut.usage.output_tokens
    assert day.unknown_costs == 1


async def reported_by(url: str) -> tuple[int, int]:
    """What the engine itself says of the same request, asked without us."""
    body = {
        "messages": [{"role": "user", "content": WORDS}],
        "max_tokens": 12,
        "temperature": 0.0,
    }
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/chat/completions", json=body) as answer,
    ):
        usage = (await answer.json())["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]


@pytest.mark.parametrize("engine", ["openrouter", "chutes", "nanogpt"])
async def test_a_hosted_reply_costs_and_counts_what_its_own_usage_says(
    engine: str, sessions: HttpSessions, ledger: Ledger
) -> None:
    async with playing(recordings_of(engine, ("reply",))) as playback:
        run = await stored(ledger, candidate(engine, playback.url, sessions))

    (attempt,) = run.attempts
    usage, cost = recorded(engine)
    assert attempt.usage is not None
    assert attempt.usage.input_tokens == usage["prompt_tokens"]
    assert attempt.usage.output_tokens == usage["completion_tokens"]
    assert attempt.usage.source is UsageSource.REPORTED
    assert attempt.cost_usd == cost
    expected = CostSource.UNKNOWN if cost is None else CostSource.REPORTED
    assert attempt.cost_source is expected


def recorded(engine: str) -> tuple[dict[str, int], float | None]:
    """Tokens and cost of the recording."""
    lines = "".join(load(engine, "reply").pieces).splitlines()
    frames = [json.loads(x[5:]) for x in lines if x.startswith("data:") and "[DONE]" not in x]
    last = next(frame for frame in reversed(frames) if frame.get("usage"))
    pricing = last.get("x_nanogpt_pricing") or {}
    return last["usage"], last["usage"].get("cost", pricing.get("cost"))
