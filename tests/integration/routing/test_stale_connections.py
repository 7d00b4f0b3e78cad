"""Connections that a server, or a box on the way, has forgotten without a word."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from reply_events import reply_events
from understudy.config.providers import NamedServer
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, Message, TextPart
from understudy.llm.registry import build_client
from understudy.routing.candidates import Candidate
from understudy.routing.records import AttemptRole
from understudy.routing.request import Prompt, ReplyEnded, ReplyRequest, SinkKind
from understudy.routing.router import ModelRouter

REPLY = (
    b'data: {"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
PROMPT = Prompt(ChatRequest((Message("user", (TextPart("Hello"),)),)), input_tokens=10)
ASKED = ReplyRequest("r", "web", lambda _fit: PROMPT)


@dataclass
class Forgetful:
    """Answers once per connection; whatever comes on it later is met with a reset."""

    at_once: int
    answered: int = 0
    resets: int = 0
    _together: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await self._read(reader)
            self.answered += 1
            if self.answered >= self.at_once:
                self._together.set()
            await self._together.wait()
            writer.write(HEAD % len(REPLY) + REPLY)
            await writer.drain()
            await self._read(reader)
            self.resets += 1
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))


@asynccontextmanager
async def routed(server: Forgetful) -> AsyncIterator[ModelRouter]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    sessions = HttpSessions()
    client = build_client("a", NamedServer(base_url=url), sessions=sessions)
    try:
        yield ModelRouter([Candidate("a", "m", "a", "openai", client, endpoint=url)])
    finally:
        await sessions.aclose()
        listening.close()


async def ask(router: ModelRouter) -> ReplyEnded:
    async with contextlib.aclosing(reply_events(router.reply, ASKED, SinkKind.EDITABLE)) as events:
        last = [event async for event in events][-1]
    assert isinstance(last, ReplyEnded)
    return last


async def test_however_many_were_forgotten_the_second_try_has_a_fresh_one() -> None:
    server = Forgetful(at_once=4)
    async with routed(server) as router:
        await asyncio.gather(*(ask(router) for _ in range(4)))

        end = await ask(router)

    assert end.text == "Hello"
    assert [a.role for a in end.record.attempts] == [AttemptRole.NORMAL, AttemptRole.STALE_RETRY]
    assert not end.record.attempts[1].reused_connection
    assert server.resets == 1
