"""How a chunk of a streamed reply walks through the modules of client and router."""

import asyncio
import contextlib
import json
import sys
from types import FrameType

from gateway_setup import candidate_at
from reply_events import RecordingSink
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, Message, Output, TextPart
from understudy.routing.request import Prompt, ReplyRequest, SinkKind
from understudy.routing.router import ModelRouter

_PACKAGES = ("understudy/routing/", "understudy/llm/")
_CHUNKED_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


class Walk:
    """The modules that control enters, in order; each returns to one entered before or not."""

    def __init__(self) -> None:
        self.stops: list[str] = []

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        name = frame.f_code.co_filename
        inside = event == "call" and any(package in name for package in _PACKAGES)
        if inside and self.stops[-1:] != [name]:
            self.stops.append(name)

    @property
    def modules(self) -> set[str]:
        return set(self.stops)

    @property
    def returns(self) -> int:
        return len(self.stops) - len(self.modules)


class Sink(RecordingSink):
    def __init__(self) -> None:
        super().__init__(SinkKind.APPEND_ONLY)
        self.flushed = asyncio.Event()

    async def flush(self) -> None:
        sys.setprofile(None)
        self.flushed.set()


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "a", "choices": [choice]}).encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def asking() -> ReplyRequest:
    asked = ChatRequest((Message("user", (TextPart("hi"),)),))
    return ReplyRequest("r", "gateway", lambda _: Prompt(asked, 4), may_trim_prompt=False)


async def test_a_chunk_passes_few_modules_and_rarely_comes_back() -> None:
    walk, sink = Walk(), Sink()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_HEAD)
        for text in ("One ", "two ", "three "):
            sink.flushed.clear()
            writer.write(chunk(text))
            if text == "three ":
                sys.setprofile(walk)
            await sink.flushed.wait()
        writer.write(chunk("", "stop") + b"data: [DONE]\n\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sessions = HttpSessions()
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        router = ModelRouter([candidate_at("a", url, sessions)])
        ended = await router.reply(asking(), sink)
        await sessions.aclose()
        await router.memory.aclose()

    assert ended.text == "One two three "
    assert 0 < len(walk.modules) <= 10, walk.stops
    assert walk.returns <= 15, walk.stops


class StreamedSink(RecordingSink):
    """Sends at once, as a client's connection does that takes all it gets."""

    def __init__(self) -> None:
        super().__init__(SinkKind.APPEND_ONLY)

    def try_flush(self) -> bool:
        return True


async def test_a_whole_streamed_reply_passes_few_modules() -> None:
    """Over a connection that is open already: from the request to its last record."""
    read = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await answer(reader, writer)
        writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
        writer.write(_CHUNKED_HEAD)
        for text in ("One ", "two ", "three "):
            read.clear()
            writer.write(chunked(chunk(text)))
            await read.wait()
        writer.write(chunked(chunk("", "stop") + b"data: [DONE]\n\n") + b"0\r\n\r\n")

    class Sink(StreamedSink):
        def write(self, output: Output) -> None:
            super().write(output)
            read.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sessions = HttpSessions()
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        router = ModelRouter([candidate_at("a", url, sessions)])
        await router.reply(asking(), Sink())
        walk = Walk()
        sys.setprofile(walk)
        ended = await router.reply(asking(), Sink())
        sys.setprofile(None)
        await sessions.aclose()
        await router.memory.aclose()

    assert ended.text == "One two three "
    assert 0 < len(walk.modules) <= 22, walk.stops
    assert walk.returns <= 60, walk.stops
