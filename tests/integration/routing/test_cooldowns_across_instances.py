"""A dead model server is called by one instance of all, also when one starts meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Self

import aiohttp
import pytest
from aiohttp import web

from postgres_server import KINDS, database_location
from understudy.app.bot import Bot, open_bot
from understudy.app.gateway import gateway
from understudy.app.workers import ALONE
from understudy.config.load import load_config
from understudy.config.settings import Logging
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer
from understudy.routing.cooldown import State

CONFIG = """\
model:
  provider_order: [dead, a]
  servers:
    dead: {{engine: openai, base_url: "{dead}"}}
    a: {{engine: openai, base_url: "{model}"}}
web: {{enabled: false}}
gateway: {{enabled: true, port: 0}}
storage: {{url: "{url}"}}
"""
STREAK = 3
"""Failures that open the cooldown."""


class DeadServer:
    """Fails each call; wants a second of rest at first, and much more after the first probe."""

    def __init__(self) -> None:
        self.calls = 0
        self.base_url = ""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._fail)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _fail(self, _: web.Request) -> web.Response:
        self.calls += 1
        rest = {"Retry-After": "1" if self.calls <= STREAK else "600"}
        return web.json_response({"error": {"message": "broken"}}, status=500, headers=rest)


@dataclass(frozen=True, slots=True)
class Instance:
    bot: Bot
    url: str
    http: aiohttp.ClientSession

    async def ask(self) -> str:
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
        async with self.http.post(f"{self.url}/chat/completions", json=body) as answer:
            found = await answer.json()
            return str(found["choices"][0]["message"]["content"])

    def states(self) -> set[State]:
        """Of the dead server: at first in the order."""
        board, now = self.bot.models.router.memory.board, self.bot.clocks.monotonic()
        return {board.state(key, now) for key in self.bot.models.router.candidates[0].scope_keys}


@asynccontextmanager
async def instance(folder: Path, http: aiohttp.ClientSession) -> AsyncGenerator[Instance]:
    config = load_config(folder / "config.yaml", {})
    async with (
        open_bot(config, Logs(Logging(), StringIO()), shared=True) as bot,
        gateway(bot, ALONE) as served,
    ):
        yield Instance(bot, served.url, http)


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_location(request.param, tmp_path) as location:
        yield location if isinstance(location, str) else f"sqlite:///{location}"


async def test_an_instance_that_starts_when_the_probe_is_due_does_not_call_besides(
    url: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        dead = await stack.enter_async_context(DeadServer())
        model = await stack.enter_async_context(RehearsalServer("say:hello"))
        text = CONFIG.format(dead=dead.base_url, model=model.base_url, url=url)
        (tmp_path / "config.yaml").write_text(text)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        one = await stack.enter_async_context(instance(tmp_path, http))
        while State.OPEN not in one.states():
            await one.ask()
        while State.OPEN in one.states():
            await one.ask()
        later = await stack.enter_async_context(instance(tmp_path, http))

        answers = []
        while dead.calls == STREAK:
            answers += await asyncio.gather(*(each.ask() for each in (one, later) * 3))
        answers += await asyncio.gather(*(each.ask() for each in (one, later) * 6))

    assert set(answers) == {"hello"}
    assert dead.calls == STREAK + 1
