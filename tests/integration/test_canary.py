"""Nothing private leaves the process.

A bot with every listener on, at debug level, over a server that quotes all it was sent in
whatever it answers: prompt, keys, in bodies, codes, types, ids and headers. None of it may appear
in logs, metrics, traces, ledger exports, or error messages to callers and people.
"""

import asyncio
import io
import json
import stat
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reply_events import reply_events
from understudy.app.run import Running, running
from understudy.config.load import load_config
from understudy.config.settings import Logging
from understudy.conversation.messages import Addressed, Author, Inbound, Place
from understudy.errors import ConfigError
from understudy.llm.messages import ChatRequest, Message, TextPart
from understudy.llm.testing import ScriptedClient
from understudy.observability.logs import Logs
from understudy.observability.record_log import LogObserver
from understudy.observability.reply_report import format_runs
from understudy.observability.traces import Traces
from understudy.observability.usage_report import usage_csv
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment
from understudy.routing.ledger import Grouping
from understudy.routing.records import AttemptRecord, ReplyRecord
from understudy.routing.request import Fit, Prompt, ReplyEnded, ReplyRequest, SinkKind
from understudy.routing.router import ModelRouter
from understudy.storage.database import Database
from understudy.storage.ledger import Ledger
from waiting import LIMIT_S

PROMPT = "canary-prompt amber seven"
SYSTEM = "canary-system cobalt nine"
REPLY = "canary-reply umber four"
KEY = "sk-canary-key-1f6b2c9d7e"
DISCORD = "canary.discord.token-5521"
WEB = "canary-web-token-9834"
QUERY = "canary-query-774411"
CANARIES = (PROMPT, SYSTEM, REPLY, KEY, DISCORD, WEB, QUERY)

STATUSES = (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529)
ODD = ("html", "err200", "cut", "inband", "empty", "nothing", "good")
CASES = (*map(str, STATUSES), *ODD)


class Parrot:
    """A model server that says back everything it hears, in every place there is."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        heard = f"{await request.text()} {request.headers.get('Authorization')} {REPLY}"
        case = request.match_info["case"]
        error: dict[str, object] = {
            "message": heard,
            "type": heard,
            "code": request.headers.get("Authorization", ""),
            "param": heard,
            "metadata": {"raw": heard, "provider_name": heard},
        }
        if case.isdigit():
            body = {"error": error, "detail": heard}
            return web.json_response(body, status=int(case), headers={"X-Note": PROMPT})
        if case == "html":
            return web.Response(text=f"<html>{heard}</html>", content_type="text/html")
        if case == "err200":
            return web.json_response({"error": error, "choices": None})
        return await self._stream(request, case, error)

    async def _stream(
        self, request: web.Request, case: str, error: dict[str, object]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        frames: list[object] = []
        if case in ("cut", "inband", "good"):
            frames.append({"choices": [{"delta": {"content": REPLY}}]})
        if case == "inband":
            frames.append({"error": error, "choices": [{"delta": {}, "finish_reason": "error"}]})
        if case in ("good", "empty"):
            frames.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        for frame in frames:
            await response.write(f"data: {json.dumps(frame)}\n\n".encode())
        if case == "cut":
            assert request.transport is not None
            request.transport.abort()
        return response


@pytest.fixture
async def parrot() -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_post("/{case}/v1/chat/completions", Parrot().answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


@dataclass
class Outlets:
    """Every observer of replies, and its output."""

    log: io.StringIO = field(default_factory=io.StringIO)
    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    told: list[str] = field(default_factory=list)
    """Error messages as callers got them, and pages and exports."""

    @property
    def all(self) -> str:
        spans = "".join(span.to_json() for span in self.spans.get_finished_spans())
        return "\n".join((self.log.getvalue(), spans, *self.told))


def configuration(folder: Path, parrot: str, *, prompts: bool) -> Path:
    (folder / "system.txt").write_text(SYSTEM)
    servers = {
        f"s{case}": {
            "engine": "openai",
            "base_url": f"{parrot}/{case}",
            "api_key": KEY,
            "name": "m",
        }
        for case in CASES
    }
    file = folder / "config.yaml"
    settings = {
        "model": {"provider_order": list(servers), "servers": servers},
        "persona": {"system_prompt_file": "system.txt"},
        "discord": {"enabled": False, "token": DISCORD},
        "web": {"port": 0, "token": WEB},
        "gateway": {"enabled": True, "port": 0},
        "storage": {"url": f"sqlite:///{folder / 'bot.db'}"},
        "logging": {"level": "debug", "format": "json", "prompts": prompts},
        "debug": {"error_text": False},
    }
    file.write_text(json.dumps(settings))
    return file


class Ended:
    """An observer that knows when a reply of the chat has ended."""

    def __init__(self) -> None:
        self.chat = asyncio.Event()

    def attempt_ended(self, record: AttemptRecord) -> None:
        """Replies are what is waited for."""

    def reply_ended(self, record: ReplyRecord) -> None:
        if record.sink == "web":
            self.chat.set()


async def live(folder: Path, parrot: str, *, prompts: bool) -> Outlets:
    """Run every case through the gateway, the chat over all of them, and read every page."""
    outlets, ended = Outlets(), Ended()
    config = load_config(configuration(folder, parrot, prompts=prompts), {})
    logs = Logs(config.settings.logging, outlets.log)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(outlets.spans))
    async with running(config, logs) as bot:
        bot.bot.observers.extend((Traces(provider), ended))
        async with aiohttp.ClientSession() as http:
            for case in CASES:
                outlets.told.append(await through_gateway(http, bot, case))
            await through_chat(bot)
            async with asyncio.timeout(LIMIT_S):
                await ended.chat.wait()
            await read_pages(http, bot, outlets)
    provider.shutdown()
    await read_ledger(folder, outlets)
    return outlets


async def through_gateway(http: aiohttp.ClientSession, bot: Running, case: str) -> str:
    picture = {"type": "image_url", "image_url": {"url": f"https://pics.test/a.png?sig={QUERY}"}}
    body = {
        "model": f"s{case}/m",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": [{"type": "text", "text": PROMPT}, picture]},
        ],
    }
    async with http.post(f"{bot.gateway}/chat/completions", json=body) as answer:
        text = f"{dict(answer.headers)} {await answer.text()}"
    if case == "good":
        assert REPLY in text
        return ""
    return text


async def through_chat(bot: Running) -> None:
    """One message to the bot itself, which walks all of them and ends at the good one."""
    place = Place("web", "c1", private=True)
    ann = Author("u1", "Ann")
    await bot.bot.messages.receive(
        Inbound("m1", place, ann, PROMPT, time.time(), addressed=Addressed.DM)
    )


async def read_pages(http: aiohttp.ClientSession, bot: Running, outlets: Outlets) -> None:
    assert bot.web is not None
    for path in ("/metrics", "/healthz", "/readyz"):
        async with http.get(bot.web.url + path) as page:
            outlets.told.append(await page.text())
    await read_operators_page(http, bot, outlets)


async def read_operators_page(http: aiohttp.ClientSession, bot: Running, outlets: Outlets) -> None:
    """What its script fetches: the board with the latest attempts, sums, each reply's story."""
    assert bot.web is not None
    assert bot.bot.ledger is not None
    base, operator = bot.web.url, {"Authorization": f"Bearer {WEB}"}
    replies = [reply.request_id for reply in await bot.bot.ledger.recent(100)]
    stories = [f"/api/operator/replies/{reply}" for reply in replies]
    for path in ("/operator", "/api/operator/usage", *stories):
        async with http.get(base + path, headers=operator) as page:
            assert page.status == 200
            outlets.told.append(await page.text())
    async with http.get(f"{base}/api/operator/events", headers=operator) as events:
        shown = ""
        while "event: board" not in shown:  # after the rows of the latest attempts
            shown += (await events.content.readuntil(b"\n\n")).decode()
    assert "sgood" in shown
    outlets.told.append(shown)


async def read_ledger(folder: Path, outlets: Outlets) -> None:
    database = await Database.open(folder / "bot.db")
    ledger = Ledger(database)
    replies = await ledger.recent(100)
    assert len(replies) == len(CASES) + 1
    outlets.told += [format_runs(replies), repr(replies)]
    for by in Grouping:
        outlets.told.append(usage_csv(await ledger.usage(by, 0, time.time() + 60)))
    await database.aclose()


async def test_no_canary_leaves_whatever_fails_and_however_much_is_logged(
    parrot: str, tmp_path: Path
) -> None:
    outlets = await live(tmp_path, parrot, prompts=False)

    assert "provider.attempt" in outlets.log.getvalue()
    assert len(outlets.spans.get_finished_spans()) > len(CASES)
    assert [canary for canary in CANARIES if canary in outlets.all] == []
    assert not (tmp_path / "prompts").exists()


async def test_prompts_that_were_asked_for_are_in_their_own_files_and_nowhere_else(
    parrot: str, tmp_path: Path
) -> None:
    outlets = await live(tmp_path, parrot, prompts=True)

    files = list((tmp_path / "prompts").rglob("*.json"))
    written = "".join(file.read_text() for file in files)
    assert [canary for canary in (PROMPT, SYSTEM, REPLY) if canary not in written] == []
    assert [canary for canary in (KEY, DISCORD, WEB) if canary in written] == []
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert [canary for canary in CANARIES if canary in outlets.all] == []


async def test_a_crash_of_our_own_is_logged_without_what_it_says() -> None:
    log = io.StringIO()
    Logs(Logging(level="debug", format="json"), log)
    client = ScriptedClient([[ValueError(f"{PROMPT} {KEY}")]])
    router = ModelRouter(
        [Candidate("a", "m", "a", "openai", client)],
        instruments=RouterEnvironment(observers=(LogObserver(),)),
    )
    asked = ChatRequest((Message("user", (TextPart(PROMPT),)),))

    def build(_: Fit) -> Prompt:
        return Prompt(asked, 10)

    ended: ReplyRecord | None = None
    request = ReplyRequest(id="r1", sink="web", build=build)
    async with aclosing(reply_events(router.reply, request, SinkKind.HELD)) as events:
        async for event in events:
            if isinstance(event, ReplyEnded):
                ended = event.record

    assert ended is not None
    assert "internal" in log.getvalue()
    assert "ValueError" in log.getvalue()
    assert [canary for canary in CANARIES if canary in log.getvalue() + format_runs((ended,))] == []


@pytest.mark.parametrize(
    "text",
    [
        f"model: {{openrouter: {{api_key: {{it: '{KEY}'}}}}}}",
        f"discord: {{token: {{it: '{DISCORD}'}}}}",
        f"web: {{token: '{WEB}', port: no}}",
        f"model: {{openrouter: {{api_key: '{KEY}\n",
        f"discord: {{tokn: '{DISCORD}'}}",
    ],
)
def test_a_mistake_in_the_configuration_is_told_without_its_secrets(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError) as mistake:
        load_config(file, {})

    assert [canary for canary in CANARIES if canary in str(mistake.value)] == []
