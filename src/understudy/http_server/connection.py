"""One client's connection: uvicorn's protocol with limits on size, time and number."""

import asyncio
from dataclasses import dataclass
from typing import cast

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState


class _Transport:
    """Sends the head of a response and the first part of its body with one system call.

    uvicorn writes them separately.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._head = b""

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
    head_s: float = 20.0
    body_s: float = 120.0


class Connection(HttpToolsProtocol):
    """Closes the connection at its limits. Past the number of connections, the one that has kept
    the server waiting longest for a request is closed."""

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
        self._began_now = False
        """Whether the head began in the last piece of data."""
        self._collected = 0
        self._timer: asyncio.TimerHandle | None = None
        """Runs while the server waits for a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _Transport(transport)))
        self._timer = self.loop.call_later(self._limits.head_s, self._time_out)
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._began_now = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and not self._began_now:
            self._collected += len(data)
            if self._collected > self._limits.head_bytes:
                self._refuse(b"431 Request Header Fields Too Large")
        if self._timer is None and (self._in_head or self._in_body):
            limit_s = self._limits.head_s if self._in_head else self._limits.body_s
            self._timer = self.loop.call_later(limit_s, self._time_out)

    def on_message_begin(self) -> None:
        self._in_head = self._began_now = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._collected = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._stop_timer()
        super().on_message_complete()

    @property
    def waits_until(self) -> float | None:
        """When the timer ends, in the loop's time; `None` while the server does not wait."""
        return None if self._timer is None else self._timer.when()

    def abort(self) -> None:
        self._stop_timer()
        self.transport.abort()

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

    def _refuse(self, status: bytes) -> None:
        """Close the connection, after a status where no response has started."""
        last = cast("RequestResponseCycle | None", self.cycle)
        if last is None or (last.response_complete if self._in_head else not last.response_started):
            head = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head % status)
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
