"""Servers that say each byte themselves, a small HTTP proxy, and a receiver that records."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from understudy.errors import ErrorClass, ProviderError
from understudy.llm.client import Exchange
from understudy.llm.http.call import Call
from understudy.llm.http.connection import Connection
from understudy.llm.http.endpoint import Endpoint, HttpSessions
from understudy.llm.http.parser import Headers
from waiting import LIMIT_S

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"


class Peer:
    """One accepted connection, the server's side of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[bytes, bytes]:
        """Read one request; return its head and its body."""
        head = await self.head()
        fields = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
        length = {name: value for name, _, value in fields}.get(b"content-length", b"0")
        return head, await self.reader.readexactly(int(length))

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, *pieces: bytes) -> None:
        """Write each piece and wait until it is on its way, so that they arrive apart."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await _pass_time()

    async def flood(self, piece: bytes) -> None:
        """Write the same bytes until the other side closes."""
        with contextlib.suppress(ConnectionError):
            while True:
                self.writer.write(piece)
                await self.writer.drain()
                # `drain` gives up control only where the buffer is full.
                await asyncio.sleep(0)

    async def gone(self) -> None:
        """Wait until the other side has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Close with a reset instead of an orderly end."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Serve = Callable[[Peer], Awaitable[None]]


@dataclass
class RawServer:
    port: int
    scheme: str = "http"
    accepted: int = 0
    requests: list[bytes] = field(default_factory=list)
    """The heads of the requests that `answering` read."""
    mistakes: list[Exception] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@asynccontextmanager
async def raw_server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Accept connections on loopback and hand each to `serve`; close what it leaves open."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.accepted += 1
        try:
            await serve(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - shown by the test
            server.mistakes.append(error)
        finally:
            try:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            finally:
                writer.transport.abort()
                tasks.discard(task)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    server = RawServer(port, "https" if tls else "http")
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert server.mistakes == []


def answering(*pieces: bytes, then: str = "close") -> Serve:
    """Read one request, write the pieces, then `close`, `reset`, or `wait` for the other side."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then == "reset":
            peer.reset()
        elif then == "wait":
            await peer.gone()

    return serve


def repeating(*answers: bytes) -> Serve:
    """Answer each request of a connection with the next of the answers, then close."""

    async def serve(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)

    return serve


@dataclass
class Recorder:
    """A receiver that keeps all it got; `finished` waits for `end` or `failed`."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    ended: bool = False
    error: ProviderError | None = None
    exchange: Exchange = field(default_factory=Exchange)
    call: Call | None = None
    on_data: Callable[[bytes], None] | None = None
    calls: list[str] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def error_class(self) -> ErrorClass | None:
        return self.error.error_class if self.error else None

    def head(self, status: int, headers: Headers) -> None:
        self.calls.append("head")
        self.status = status
        self.headers = headers
        self._changed.set()

    def data(self, data: bytes) -> None:
        assert data
        self.calls.append("data")
        self.pieces.append(data)
        self._changed.set()
        if self.on_data is not None:
            self.on_data(data)

    def end(self) -> None:
        self.calls.append("end")
        self.ended = True
        self._changed.set()

    def failed(self, error: ProviderError) -> None:
        self.calls.append("failed")
        self.error = error
        self._changed.set()

    async def until(self, holds: Callable[["Recorder"], bool]) -> "Recorder":
        async with asyncio.timeout(LIMIT_S):
            while not holds(self):
                self._changed.clear()
                await self._changed.wait()
        return self

    async def finished(self) -> "Recorder":
        return await self.until(lambda self: self.ended or self.error is not None)


def send(endpoint: Endpoint, body: bytes = b"{}", path: str = "/x", **more: object) -> Recorder:
    """Send a request whose response is recorded."""
    recorder = Recorder(**more)  # type: ignore[arg-type]
    recorder.call = endpoint.send(path, body, recorder.exchange, recorder)
    assert recorder.calls == []
    return recorder


async def exchange_with(endpoint: Endpoint, body: bytes = b"{}") -> Recorder:
    return await send(endpoint, body).finished()


def connections_of(sessions: HttpSessions) -> list[Connection]:
    return [c for pool in sessions._pools.values() for c in pool._open]


async def _pass_time() -> None:
    """Let everything that is ready run, I/O included."""
    for _ in range(5):
        await asyncio.sleep(0)


@dataclass
class ProxyDouble:
    """An HTTP proxy that reaches one server on loopback, whatever name it is asked for."""

    target: int
    needs: str | None = None
    """The Proxy-Authorization without which it answers 407."""
    asked: list[bytes] = field(default_factory=list)
    """The first line of each request."""

    async def serve(self, peer: Peer) -> None:
        head = await peer.head()
        self.asked.append(head.split(b"\r\n")[0])
        if self.needs is not None and f"proxy-authorization: {self.needs}".encode().lower() not in (
            head.lower()
        ):
            await peer.send(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
            )
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        if head.startswith(b"CONNECT"):
            await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            writer.write(head)
        try:
            await asyncio.gather(_copy(peer.reader, writer), _copy(reader, peer.writer))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:  # TLS has no half-closed connections
            writer.close()
    except OSError:
        writer.transport.abort()
