"""One client's connection: HTTP/1.1 requests within limits on size, time and number."""

import asyncio
import math
from collections import deque
from enum import Enum
from typing import cast

import httptools

from understudy.http_server.exchange import Exchange, Header
from understudy.http_server.request_task import log_failure
from understudy.http_server.state import ServerState
from understudy.network import socket_address

_PIECE = 2_048
"""Bytes; parsing cannot be stopped within a piece, which may hold 40 requests."""

_NEVER = math.inf
_CONNECTION = frozenset((b"connection", b"proxy-connection"))


class _Waiting(Enum):
    """What the server waits for; each has its own limit."""

    HEAD = "head"
    BODY = "body"
    NEXT = "next"
    """The next request of a connection that has had one."""


class Connection(asyncio.Protocol):
    """Answers the requests of one client in their order; closes the connection at its limits."""

    host = ""
    port = 0
    server = ("", 0)
    paused = False
    """Whether the client reads too slowly."""

    _transport: asyncio.Transport
    _closing = False
    _reading = True

    _in_head = False
    _collected = 0
    """Bytes since the last head was complete, or the last content of a body came."""
    _ahead = 0
    """Bytes that came while requests waited in line."""

    _at_once = 0
    """Requests that came with one read: each may be answered before the next is parsed."""
    _incoming: Exchange | None = None
    """The request whose body is being read."""
    _answering: Exchange | None = None

    _waiting: _Waiting | None = None
    _deadline = _NEVER
    _timer: asyncio.TimerHandle | None = None
    """Checks the deadline, which moves more often."""
    _fires = _NEVER
    _write_timer: asyncio.TimerHandle | None = None
    """Runs while the client reads too slowly."""
    _writable: asyncio.Future[None] | None = None

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self.head = state.head
        self.run = state.run
        self._limits = state.limits
        self._loop = state.loop
        self._headers: list[Header] = []
        self._line: deque[Exchange] = deque()
        """Pipelined requests, which wait until those before them are answered."""
        self._parts: list[bytes] = []
        self._target: list[bytes] = []
        # httptools looks its callbacks up by name; these two never enter Python code.
        self.on_body = self._parts.append
        self.on_url = self._target.append
        self._parser = httptools.HttpRequestParser(self)
        # Also requests that follow one with `Connection: close` are parsed, and not answered.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.host, self.port = socket_address(transport.get_extra_info("peername"))
        self.server = socket_address(transport.get_extra_info("sockname"))
        self._wait(_Waiting.HEAD, self._limits.head_s)
        self._state.add(self)
        if self._state.stopping:
            self.shut_down()

    def connection_lost(self, _error: Exception | None) -> None:
        self._closing = True
        self._stop_waiting()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.resume_writing()
        self._line.clear()
        self._incoming = None
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.client_left()
        del self._parser  # it refers to this connection
        self._state.discard(self)

    def data_received(self, data: bytes) -> None:
        # A body goes to the parser as it comes, heads in pieces.
        self._at_once = at = 0
        if len(data) <= _PIECE and not self._closing:
            self._parse(data)
            return
        while at < len(data) and not self._closing:
            end = len(data) if self._incoming is not None else at + _PIECE
            self._parse(data[at:end])
            at = end

    def pause_writing(self) -> None:
        self.paused = True
        self._expect_reading()

    def resume_writing(self) -> None:
        self.paused = False
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None
        self._answer_next()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._in_head = True
        self._headers = []
        self._target.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is part of no request here, and comes after the checks of the head.
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._collected = 0
        self._waiting, self._deadline = None, _NEVER
        if self._closing:
            return
        self._at_once += 1
        limits, headers = self._limits, self._headers
        named = dict(headers)
        hosts = b"host" in named
        if len(named) != len(headers):
            hosts = [name for name, _ in headers].count(b"host") == 1
        keep_alive, http_1_0 = self._parser.should_keep_alive(), False
        # Where no header asks for it, only HTTP/1.1 keeps a connection alive.
        if not (keep_alive and _CONNECTION.isdisjoint(named)):
            version = self._parser.get_http_version()
            keep_alive, http_1_0 = keep_alive and version == "1.1", version == "1.0"
        if len(headers) > limits.headers:
            self._refuse(b"431 Request Header Fields Too Large")
        elif not (hosts or http_1_0):
            self._refuse(b"400 Bad Request")
        elif len(self._line) >= limits.pipelined or self._at_once > limits.pipelined:
            self.abort()
        else:
            self._begin(named, http_1_0=http_1_0, keep_alive=keep_alive)

    def on_message_complete(self) -> None:
        if self._parts:
            self._take_body()
        exchange, self._incoming = self._incoming, None
        if exchange is None or self._closing:
            return
        self._waiting, self._deadline = None, _NEVER
        exchange.body_complete = True
        if exchange.receiver is not None:
            exchange.receiver.end()
        elif exchange.complete and self._answering is None:
            self._wait(_Waiting.NEXT, self._limits.idle_s)

    # What an exchange asks of its connection.

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._transport.write(data)

    async def drain(self) -> None:
        if self.paused:
            if self._writable is None:
                self._writable = self._loop.create_future()
            await asyncio.shield(self._writable)

    def keeps_alive(self) -> bool:
        return not self._state.stopping or bool(self._line)

    def end_response(self, exchange: Exchange, data: bytes, *, keep: bool) -> None:
        if data and not self._closing:
            self._transport.write(data)
        exchange.receiver = None
        self._answering = None
        if not keep or (self._state.stopping and not self._line):
            self.close()
        elif self._line:
            self._answer_next()
        elif not self._closing:
            self._ahead = 0
            if not self._reading:
                self.resume_reading()
            if self._incoming is None and not self._in_head:
                self._wait(_Waiting.NEXT, self._limits.idle_s)

    def pause_reading(self) -> None:
        if self._reading and not self._closing:
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._transport.resume_reading()

    # What the server asks.

    @property
    def waits_until(self) -> float | None:
        times = [] if self._waiting in (None, _Waiting.NEXT) else [self._deadline]
        if self._write_timer is not None:
            times.append(self._write_timer.when())
        return min(times, default=None)

    @property
    def in_line(self) -> int:
        """How many requests wait until those before them are answered."""
        return len(self._line)

    def shut_down(self) -> None:
        if self._answering is None and not self._line:
            self.close()

    def close(self) -> None:
        """Close when everything that was written is sent."""
        self._closing = True
        self._transport.close()

    def abort(self) -> None:
        self._closing = True
        self._stop_waiting()
        self._transport.abort()

    # Requests.

    def _begin(self, named: dict[bytes, bytes], *, http_1_0: bool, keep_alive: bool) -> None:
        """Answer a request whose head has come, or let it wait in line."""
        self._incoming = exchange = Exchange(
            self,
            self._parser.get_method(),
            b"".join(self._target),
            self._headers,
            named,
            http_1_0=http_1_0,
        )
        if not keep_alive:
            exchange.close_after()
        if self._answering is None and not (self._line or self.paused):
            self._answer(exchange)
        else:
            exchange.body = []
            self._line.append(exchange)
            self.pause_reading()

    def _answer_next(self) -> None:
        """Begin the next request, once the one before it is answered and the client reads."""
        if self._answering is None and self._line and not (self.paused or self._closing):
            self._answer(self._line.popleft())

    def _answer(self, exchange: Exchange) -> None:
        self._answering = exchange
        body, exchange.body = exchange.body, None
        try:
            receiver = self._state.app(exchange)
        except Exception as error:  # noqa: BLE001 - a mistake in the application
            log_failure(exchange, error)
            exchange.fail()
            return
        if receiver is None or exchange.complete:
            return
        exchange.receiver = receiver
        if body:
            receiver.data(b"".join(body))
        if exchange.body_complete and exchange.receiver is not None:
            receiver.end()

    def _take_body(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self._collected = 0
        exchange = self._incoming
        if exchange is None:
            return
        if exchange.receiver is not None:
            exchange.receiver.data(data)
        elif exchange.body is not None:
            exchange.body.append(data)

    def _parse(self, piece: bytes) -> None:
        self._collected += len(piece)
        rest = b""
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            # No other protocol is spoken here: the request is answered as any other.
            rest = piece[upgrade.args[0] :]
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request")
        if self._parts:
            self._take_body()
        odd = self._line or self._collected
        if self._closing or (odd and not self._is_within_limits(len(piece))):
            return
        if self._in_head:
            self._wait(_Waiting.HEAD, self._limits.head_s)
        elif self._incoming is not None:
            self._wait(_Waiting.BODY, self._limits.body_s)
        if rest:
            self._parse(rest)

    def _is_within_limits(self, size: int) -> bool:
        if self._line:
            self._ahead += size
            if self._ahead > self._limits.head_bytes:
                self.abort()
                return False
        if self._collected > self._limits.head_bytes or (
            self._in_head and len(self._headers) > self._limits.headers
        ):
            self._refuse(b"431 Request Header Fields Too Large")
            return False
        return True

    def _refuse(self, status: bytes) -> None:
        """Close the connection, after a status where no response has started."""
        if self._closing:
            return
        answering = self._answering
        idle = answering is None and not self._line
        between = idle and (self._in_head or self._incoming is None)
        if between or (
            answering is not None and answering is self._incoming and not answering.started
        ):
            head = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.write(head % status)
        self.close()

    # Time limits.

    def _wait(self, waiting: _Waiting, limit_s: float) -> None:
        """Start the limit for a thing to wait for, unless it runs."""
        if self._waiting is waiting:
            return
        self._waiting = waiting
        self._deadline = self._loop.time() + limit_s
        if self._deadline < self._fires:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer()

    def _set_timer(self) -> None:
        self._fires = self._deadline
        self._timer = self._loop.call_at(self._fires, self._check_deadline)

    def _stop_waiting(self) -> None:
        self._waiting = None
        self._deadline = _NEVER

    def _check_deadline(self) -> None:
        self._timer = None
        self._fires = _NEVER
        if self._loop.time() < self._deadline:
            if self._deadline < _NEVER:
                self._set_timer()
        elif self._in_head or self._waiting is _Waiting.BODY:
            self._refuse(b"408 Request Timeout")
        else:
            self.close()

    def _expect_reading(self) -> None:
        unread = self._transport.get_write_buffer_size()
        self._write_timer = self._loop.call_later(self._limits.write_s, self._check_reading, unread)

    def _check_reading(self, unread: int) -> None:
        if self._transport.get_write_buffer_size() < unread:
            self._expect_reading()
        else:
            self.abort()
