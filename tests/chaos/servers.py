"""Model servers that fail as often as asked: rehearsal servers, and a real llama.cpp server."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import aiohttp
from aiohttp import web

from chaos.observations import Call, Recorder
from llama_server import llama_server
from tiny_model import make_tiny_model
from understudy.rehearsal.faults import FAULTS, Behaviour, behaviour
from understudy.rehearsal.responder import Finish, Move, Responder, Say, Words
from understudy.rehearsal.script import Script
from understudy.rehearsal.server import RehearsalServer

REAL = "llama"
LAST = "last"
BLAMING = "a"
"""The only server that rejects requests: two rejections would correctly end a reply."""
NAMES = (BLAMING, "b", "c", REAL, LAST)
_SHARES = {REAL: 0.3, LAST: 0.15}
_SHARE = 0.5
_BLAMES = ("e400", "e422", "e403mod", "e400param", "ctx", "jinja")
_BLAMELESS = tuple(name for name in FAULTS if name not in _BLAMES)
_SHORT = ("silent", "reset", "e500", "e503", "html", "empty", "garbage", "rolestall", "miderr",
          "midstall", "cut", "cleancut", "halfframe")  # fmt: skip
"""Faults with a short cooldown: without them all servers would be in cooldown for long."""
_ODD = ("badjson", "nousage", "think", "chatty")
_ODD_SHARE = 0.1
_WORDS = 20


@dataclass(frozen=True)
class RecordedBehaviour:
    """Plays a behaviour with words that name call and question, and records the call."""

    server: str
    behaviour_of_call: Behaviour
    recorder: Recorder

    async def play(self, stage: Responder) -> None:
        faulted = self.behaviour_of_call.name in FAULTS
        call = self.recorder.called(self.server, stage.asked.body["messages"], faulted=faulted)
        words = iter(_answer(f"{self.server}#{stage.asked.number}", call.question))
        self.recorder.running += 1
        try:
            for move in self.behaviour_of_call.moves:
                await self._play(move, stage, call, words)
        finally:
            self.recorder.running -= 1

    async def _play(self, move: Move, stage: Responder, call: Call, words: Iterable[str]) -> None:
        if isinstance(move, Words):
            spoken = [word for _, word in zip(range(move.count or 99), words, strict=False)]
            move = Say(tuple(spoken))
        if isinstance(move, Say):
            call.text += "".join(move.pieces)
        if isinstance(move, Finish):
            call.whole = True
        await move.play(stage)


def _answer(mark: str, question: int) -> list[str]:
    return [f"[{mark}] ", "about ", f"q{question}: ", *["word "] * _WORDS, f"end of q{question}"]


def fault_script(server: str, seed: int) -> Script:
    """What meets each call. It hangs on seed and number alone, however the calls overlap."""
    names = {BLAMING: FAULTS, LAST: _SHORT}.get(server, _BLAMELESS)
    faults = [behaviour(name) for name in names]
    odd = [behaviour(name) for name in _ODD]
    share = _SHARES.get(server, _SHARE)

    def behaviour_of_call(number: int) -> Behaviour:
        dice = Random(f"{seed}/{server}/{number}")
        at = dice.random()
        if at < share:
            return dice.choice(faults)
        return dice.choice(odd) if at < share + _ODD_SHARE else behaviour("ok")

    return behaviour_of_call


@asynccontextmanager
async def model_servers(
    recorder: Recorder, seed: int, folder: Path
) -> AsyncIterator[dict[str, str]]:
    """Every server's address by its name, while they run."""
    async with AsyncExitStack() as stack:
        urls = {}
        for name in NAMES:
            if name == REAL:
                real = stack.enter_context(
                    llama_server(make_tiny_model(folder / "tiny.gguf"), slots=2, context=32_768)
                )
                relay = Relay(real, recorder, seed)
                urls[name] = await stack.enter_async_context(relay.open())
            else:
                server = await stack.enter_async_context(RehearsalServer())
                server.play(_recorded(name, fault_script(name, seed), recorder))
                urls[name] = server.base_url
        yield urls


def _recorded(name: str, behaviour_of_call: Script, recorder: Recorder) -> Script:
    def play(number: int) -> Behaviour:
        chosen = behaviour_of_call(number)
        return replace(chosen, moves=(RecordedBehaviour(name, chosen, recorder),))

    return play


class Relay:
    """A proxy of a real server: records requests and answers, and aborts some calls."""

    def __init__(self, url: str, recorder: Recorder, seed: int) -> None:
        self._url = url
        self._witness = recorder
        self._seed = seed
        self._calls = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        async with aiohttp.ClientSession(self._url) as self._real:
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            finally:
                await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path.endswith("/chat/completions"):
            return await self._chat(request, body)
        async with self._real.request(request.method, request.path_qs, data=body) as answer:
            return web.Response(
                body=await answer.read(), status=answer.status, content_type=answer.content_type
            )

    async def _chat(self, request: web.Request, body: bytes) -> web.StreamResponse:
        self._calls += 1
        dice = Random(f"{self._seed}/relay/{self._calls}")
        breaks_after = dice.randint(0, 12) if dice.random() < _SHARES[REAL] else None
        asked = json.loads(body)
        call = self._witness.called(REAL, asked["messages"], faulted=breaks_after is not None)
        self._witness.running += 1
        try:
            async with self._real.post(
                request.path_qs, data=body, headers={"Content-Type": "application/json"}
            ) as answer:
                return await self._stream(request, answer, call, breaks_after)
        finally:
            self._witness.running -= 1

    @staticmethod
    async def _stream(
        request: web.Request, answer: aiohttp.ClientResponse, call: Call, breaks_after: int | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status)
        response.content_type = answer.content_type
        await response.prepare(request)
        lines = 0
        async for line in answer.content:
            if breaks_after is not None and lines >= breaks_after:
                assert request.transport is not None
                request.transport.abort()
                await asyncio.sleep(3600)
            call.text += _delta(line)
            call.whole = call.whole or b"[DONE]" in line
            lines += line.startswith(b"data:")
            await response.write(line)
        await response.write_eof()
        return response


def _delta(line: bytes) -> str:
    if not line.startswith(b"data: {"):
        return ""
    choices = json.loads(line[6:]).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""
