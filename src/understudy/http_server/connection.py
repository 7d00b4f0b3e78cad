"""One client's connection: uvicorn's protocol with limits on size, time and number."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

from uvicorn import Config
from uvicorn._types import ASGI3Application, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

_PIECE = 2_048
"""Bytes; parsing cannot be stopped within a piece, which may hold 40 requests."""
EXTENSION = "understudy"
"""Extension of the ASGI scope; its `server` is a `ServerExtension`."""


@dataclass(frozen=True, slots=True)
class ServerExtension:
    """What applications can do beyond ASGI, without a task or a coroutine of their own."""

    on_disconnect: set[Callable[[], None]]
    """Callbacks for when the connection is lost."""
    send_now: Callable[[dict[str, object]], bool]
    """Send a message at once; False where `send` would wait for the client."""
    respond: "Respond"


class Respond(Protocol):
    def __call__(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole response at once, Content-Length added; False where only `send` can."""
        ...


class _Transport:
    """Sends the head of a response and the first part of its body with one system call.

    uvicorn writes them separately.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._head = b""
        # Asked for several times per request, so not by way of `__getattr__`.
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data.startswith(b"HTTP/"):
            self._send_head()
            self._head = data
            # The body may come much later: a stream can start before its first token.
            self._loop.call_soon(self._send_head)
            return
        head, self._head = self._head, b""
        self._transport.write(head + data if head else data)

    def write_response(self, data: bytes) -> None:
        """Write a head with its whole body."""
        self._send_head()
        self._transport.write(data)

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Limits that apply before authentication. uvicorn and httptools have none of them."""

    connections: int = 1000
    head_bytes: int = 65_536
    """Of a head, of what follows the last byte of a body, and of requests that wait in line."""
    headers: int = 200
    """A header of five bytes takes 130 bytes of memory."""
    pipelined: int = 8
    """Requests that may wait in line behind the one that is being answered."""
    head_s: float = 20.0
    body_s: float = 120.0
    grace_s: int = 3
    """How long running requests may take after the server was stopped."""
    write_s: float = 30.0
    """How long a client may read nothing of a response."""


class Connection(HttpToolsProtocol):
    """Closes the connection at its limits. Past the number of connections, the one that has kept
    the server waiting longest, for a request or for reading a response, is closed."""

    def __init__(
        self,
        limits: ClientLimits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._in_head = False
        self._in_body = False
        self._progressed = False
        """Whether the last piece of data began a head or held content of a body."""
        self._collected = 0
        """Bytes since the head began, or since the last content of the body."""
        self._ahead = 0
        """Bytes that came while requests waited in line."""
        self._answering: RequestResponseCycle | None = None
        self._timer: asyncio.TimerHandle | None = None
        """Runs while the server waits for a request."""
        self._write_timer: asyncio.TimerHandle | None = None
        """Runs while the client reads too slowly."""
        self._disconnect_callbacks: set[Callable[[], None]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _Transport(transport)))
        self._timer = self.loop.call_later(self._limits.head_s, self._time_out)
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        for callback in tuple(self._disconnect_callbacks):
            callback()
        self._stop_timer()
        self._stop_write_timer()
        # uvicorn notifies the newest request only, which may wait in line behind another.
        for cycle in (self._answering, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # A body goes to the parser as it comes, heads in pieces.
        at = 0
        while at < len(data) and not self.transport.is_closing():
            end = len(data) if self._in_body else at + _PIECE
            self._parse(data[at:end])
            at = end

    def on_message_begin(self) -> None:
        self._in_head = self._progressed = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            # A trailer: part of no request here, and after the checks of the head.
            return
        if len(name) == 6 and name.lower() == b"expect":
            super().on_header(name, value)
        else:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._collected = 0
        self._stop_timer()
        names = [name for name, _ in self.headers]
        if len(names) > self._limits.headers:
            self._refuse(b"431 Request Header Fields Too Large")
        elif names.count(b"host") != 1 and self.parser.get_http_version() == "1.1":
            self._refuse(b"400 Bad Request")
        elif len(self.pipeline) >= self._limits.pipelined:
            self.abort()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progressed = True
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._stop_timer()
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:
            # uvicorn reads on although requests wait in line.
            self.flow.pause_reading()
        else:
            self._ahead = 0

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    @property
    def waits_until(self) -> float | None:
        """When a timer ends, in the loop's time; `None` while the server does not wait."""
        timers = (self._timer, self._write_timer)
        return min((timer.when() for timer in timers if timer is not None), default=None)

    def abort(self) -> None:
        self._stop_timer()
        self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        server = ServerExtension(
            self._disconnect_callbacks,
            partial(self._send_now, cycle),
            partial(self._respond, cycle),
        )
        cycle.scope["extensions"] = {EXTENSION: {"server": server}}
        super()._start_asgi_task(cycle, app)

    def _send_now(self, cycle: RequestResponseCycle, message: dict[str, object]) -> bool:
        if self.flow.write_paused:
            return False
        sending = cycle.send(cast("ASGISendEvent", message))
        try:
            sending.send(None)
        except StopIteration:
            return True
        raise RuntimeError("uvicorn waits only while writing is paused")

    def _respond(
        self,
        cycle: RequestResponseCycle,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
    ) -> bool:
        """As `ServerExtension.respond`, with the bytes that uvicorn writes for two messages."""
        special = not cycle.keep_alive or cycle.scope["method"] == "HEAD"
        if special or self.flow.write_paused or cycle.disconnected or cycle.response_started:
            return False
        named = [*cycle.default_headers, *headers]
        head = b"".join([b"%b: %b\r\n" % header for header in named])
        if head.count(b"\n") != len(named) or head.count(b"\r") != len(named):
            return False  # a line break in a header: uvicorn refuses it
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        whole = b"%b%bcontent-length: %d\r\n\r\n%b" % (STATUS_LINE[status], head, len(body), body)
        cast("_Transport", self.transport).write_response(whole)
        cycle.on_response()
        return True

    def _parse(self, piece: bytes) -> None:
        self._progressed = False
        super().data_received(piece)
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._ahead += len(piece)
            if self._ahead > self._limits.head_bytes:
                self.abort()
                return
        if not self._progressed:
            self._collected += len(piece)
            if self._collected > self._limits.head_bytes:
                self._refuse(b"431 Request Header Fields Too Large")
                return
        elif self._in_body:
            self._collected = 0
        if self._timer is None and (self._in_head or self._in_body):
            limit_s = self._limits.head_s if self._in_head else self._limits.body_s
            self._timer = self.loop.call_later(limit_s, self._time_out)

    def _make_room(self) -> None:
        waiting = {
            ends: other
            for other in self.connections
            if isinstance(other, Connection) and (ends := other.waits_until) is not None
        }
        waiting[min(waiting)].abort()

    def _time_out(self) -> None:
        if self._in_head or self._in_body:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _expect_reading(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self._limits.write_s, self._check_reading, unread)

    def _check_reading(self, unread: int) -> None:
        if self.transport.get_write_buffer_size() < unread:
            self._expect_reading()
        else:
            self.abort()

    def _refuse(self, status: bytes) -> None:
        """Close the connection, after a status where no response has started."""
        last = self._answering
        if last is None or (last.response_complete if self._in_head else not last.response_started):
            head = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head % status)
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
