"""Clients of the cluster beside Discord: visitors of the page, a gateway key, a dead server."""

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Self, TypeVar

import aiohttp
from aiohttp import web

from chaos.cluster_judge import Reply
from waiting import LIMIT_S
from web_setup import Events

R = TypeVar("R")
KEY = "a key with a limit"
KEY_REQUESTS_PER_FAULT = 5
"""Of the requests per day that the key may make at all instances together: a run without many
faults is short, and has to reach the limit too."""
_CHAT_LENGTH = 20
_LIMIT = aiohttp.ClientTimeout(total=30)
_FAILURES = (aiohttp.ClientError, TimeoutError, EOFError, OSError)


@dataclass(slots=True)
class Visitors:
    """People on the page. Each sends a question to one instance, and waits for its reply at any."""

    pages: Sequence[str]
    """The base URLs of all instances."""
    http: aiohttp.ClientSession
    chance: random.Random
    asked: list[str] = field(default_factory=list)

    async def ask_all(self, visitors: int, questions: int) -> None:
        async with asyncio.TaskGroup() as group:
            for visitor in range(visitors):
                group.create_task(self._ask(visitor, questions // visitors))

    async def replies(self) -> list[Reply]:
        """What the conversations show now, each reply after the question it follows."""
        chats = dict.fromkeys(question.rpartition(".")[0] for question in self.asked)
        found: list[Reply] = []
        for chat in chats:
            entries = await self._retry(partial(self._entries, chat))
            question = ""
            for entry in entries:
                if entry["kind"] == "user":
                    question = f"{chat}.{str(entry['id']).rpartition('.')[2]}"
                elif entry["state"] in ("done", "partial"):
                    found.append(Reply(chat, question))
        return found

    async def _ask(self, visitor: int, questions: int) -> None:
        for number in range(questions):
            chat = f"visitor-{visitor:04}/chat-{number // _CHAT_LENGTH:04}"
            question = f"question-{number:04}"
            await self._retry(partial(self._send, chat, question))
            self.asked.append(f"{chat}.{question}")
            with suppress(TimeoutError):
                async with asyncio.timeout(LIMIT_S):
                    await self._replied(chat, number % _CHAT_LENGTH + 1)

    async def _send(self, chat: str, question: str) -> None:
        browser, _, name = chat.partition("/")
        body = {"id": question, "text": f"And then? {question}"}
        url = f"{self._any()}/api/chats/{name}/messages"
        async with self.http.post(url, json=body, headers=_cookie(browser)) as answer:
            answer.raise_for_status()

    async def _replied(self, chat: str, count: int) -> None:
        while True:
            entries = await self._retry(partial(self._entries, chat))
            done = [one for one in entries if one["kind"] == "reply" and one["state"] == "done"]
            if len(done) >= count:
                return
            await asyncio.sleep(self.chance.uniform(0.1, 0.5))

    async def _entries(self, chat: str) -> list[Mapping[str, object]]:
        browser, _, name = chat.partition("/")
        url = f"{self._any()}/api/chats/{name}/events"
        async with self.http.get(url, headers=_cookie(browser)) as answer:
            answer.raise_for_status()
            _, data = await Events(answer).next()
        entries = data["entries"]
        assert isinstance(entries, list)
        return entries

    def _any(self) -> str:
        return self.chance.choice(self.pages)

    async def _retry(self, call: Callable[[], Awaitable[R]]) -> R:
        while True:
            with suppress(*_FAILURES):
                async with asyncio.timeout(20):
                    return await call()
            await asyncio.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _cookie(browser: str) -> dict[str, str]:
    return {"Cookie": f"understudy_browser={browser}"}


@dataclass(slots=True)
class KeyHolder:
    """Uses one key at all gateways, more often than its limit allows."""

    gateways: Sequence[str]
    http: aiohttp.ClientSession
    chance: random.Random
    answered: int = 0
    refused: int = 0

    async def run(self, every_s: float) -> None:
        """Until cancelled."""
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
        headers = {"Authorization": f"Bearer {KEY}"}
        while True:
            url = f"{self.chance.choice(self.gateways)}/v1/chat/completions"
            with suppress(*_FAILURES):
                async with self.http.post(url, json=body, headers=headers, timeout=_LIMIT) as got:
                    self.answered += got.status == 200
                    self.refused += got.status == 429
            await asyncio.sleep(self.chance.uniform(0, 2 * every_s))


class DeadServer:
    """A model server that fails each call, and notes when it was called."""

    def __init__(self) -> None:
        self.calls: list[float] = []
        self.base_url = ""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._fail)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _fail(self, _: web.Request) -> web.Response:
        self.calls.append(time.monotonic())
        return web.json_response({"error": {"message": "out of order"}}, status=500)
