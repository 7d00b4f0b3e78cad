"""One HTTP request and its response, between a connection and the application."""

from collections.abc import Coroutine, Sequence
from typing import Protocol
from urllib.parse import urlsplit

Header = tuple[bytes, bytes]

_WITHOUT_BODY = (204, 304)


class Receiver(Protocol):
    """What an application makes of one request. The calls come in this order; none may raise."""

    def data(self, data: bytes) -> None:
        """Take a piece of the body. Not called once the response is complete."""
        ...

    def end(self) -> None:
        """Called when the request is complete, unless its response is."""
        ...

    def lost(self) -> None:
        """Called when the client hangs up before the response is complete."""
        ...


class Running(Protocol):
    """The work of the application on a request."""

    def cancel(self, exchange: "Exchange") -> None:
        """Cancel the work on this request, unless it is done."""
        ...


class Client(Protocol):
    """The connection that a request came on."""

    host: str
    """The address of the client."""
    port: int
    server: tuple[str, int]
    """The address that the client connected to."""

    @property
    def paused(self) -> bool: ...
    def head(self, status: int) -> bytes: ...
    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def run(self, exchange: "Exchange", work: Coroutine[object, object, None]) -> Running: ...
    def keeps_alive(self) -> bool: ...
    def end_response(self, exchange: "Exchange", data: bytes, *, keep: bool) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...


def header_lines(headers: Sequence[Header]) -> bytes:
    """Encode headers. Raises `ValueError` for a line break in one of them."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if not (lines.count(b"\n") == lines.count(b"\r") == len(headers)) or b"\0" in lines:
        raise ValueError("a header contains a line break or a null byte")
    return lines


class Exchange:
    """One request, and its response.

    `lines` are encoded headers, each with its line break, without Content-Length,
    Transfer-Encoding and Connection. What is sent after the client has hung up is discarded.
    """

    __slots__ = (
        "_bodyless",
        "_chunked",
        "_head",
        "_keep_alive",
        "_running",
        "body",
        "body_complete",
        "client",
        "complete",
        "headers",
        "http_1_0",
        "lost",
        "method",
        "named",
        "receiver",
        "started",
        "target",
    )

    def __init__(
        self,
        client: Client,
        method: bytes,
        target: bytes,
        headers: list[Header],
        named: dict[bytes, bytes],
        *,
        http_1_0: bool,
    ) -> None:
        self.client = client
        self.method = method
        self.target = target
        self.headers = headers
        """Names are in lower case."""
        self.named = named
        """The last header of each name."""
        self.http_1_0 = http_1_0
        self.receiver: Receiver | None = None
        self.body: list[bytes] | None = None
        """What came before the application was asked: earlier requests are answered first."""
        self.body_complete = False
        self.started = False
        """Whether the status was sent."""
        self.complete = False
        self.lost = False
        """Whether the client hung up before the response was complete."""
        self._keep_alive = True
        self._running: Running | None = None
        self._bodyless = False
        self._chunked = False
        self._head = b""

    # The request.

    @property
    def raw_path(self) -> bytes:
        return self._split()[0]

    @property
    def query(self) -> bytes:
        return self._split()[1]

    def _split(self) -> tuple[bytes, bytes]:
        target = self.target
        if not target.startswith(b"/") and b"://" in target:
            parts = urlsplit(target)
            return parts.path or b"/", parts.query
        path, _, query = target.partition(b"#")[0].partition(b"?")
        return path, query

    def proceed(self) -> None:
        """Ask a client for the body that it sends only once the request is accepted."""
        if not (self.started or self.body_complete or self.http_1_0) and any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in self.headers
        ):
            self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def run(self, work: Coroutine[object, object, None]) -> None:
        """Do the application's work on this request in a task that the server owns; once."""
        self._running = self.client.run(self, work)

    def cancel(self) -> None:
        """Cancel the work on this request, where it is not done."""
        if self._running is not None:
            self._running.cancel(self)

    # The response.

    async def drain(self) -> None:
        """Wait until the client has read enough, or has hung up."""
        await self.client.drain()

    def respond(self, status: int, lines: bytes, body: bytes) -> None:
        """Send a whole response with one write."""
        if self.lost:
            return
        client = self.client
        self.started = self.complete = True
        keep = self._keep_alive and client.keeps_alive()
        if not keep:
            lines += b"connection: close\r\n"
        if status not in _WITHOUT_BODY:
            lines += b"content-length: %d\r\n" % len(body)
        if self.method == b"HEAD":
            body = b""
        client.end_response(self, b"%b%b\r\n%b" % (client.head(status), lines, body), keep=keep)

    def start(self, status: int, lines: bytes, *, sized: bool = False) -> None:
        """Begin a response; its head is sent together with the first write.

        `sized`: `lines` has a Content-Length.
        """
        self.started = True
        self._bodyless = self.method == b"HEAD" or status in _WITHOUT_BODY
        self._chunked = not (sized or self.http_1_0 or self._bodyless)
        # Without a length, the end of the connection ends the body.
        keep = self._keep_alive and self.client.keeps_alive()
        self._keep_alive = keep and (self._chunked or sized or self._bodyless)
        if not self._keep_alive:
            lines += b"connection: close\r\n"
        if self._chunked:
            lines += b"transfer-encoding: chunked\r\n"
        self._head = b"%b%b\r\n" % (self.client.head(status), lines)

    def write(self, data: bytes) -> None:
        """Send a part of the body, and the head before it."""
        if self.lost or self.complete:
            return
        if self._bodyless:
            data = b""
        elif data and self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self.client.write(data)

    def finish(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        if self.lost or self.complete:
            return
        if self._bodyless:
            data = b""
        elif self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        self.complete = True
        self.client.end_response(self, self._head + data, keep=self._keep_alive)

    def fail(self) -> None:
        """End the response to a request that the application failed at."""
        if self.lost or self.complete:
            return
        self.close_after()
        if self.started and not self._head:
            self.complete = True
            self.client.end_response(self, b"", keep=False)
        else:
            self._head = b""
            text = b"content-type: text/plain; charset=utf-8\r\n"
            self.respond(500, text, b"Internal Server Error")

    def close_after(self) -> None:
        """Close the connection once the response is complete."""
        self._keep_alive = False

    def client_left(self) -> None:
        """Note that the connection was lost."""
        if self.complete or self.lost:
            return
        self.lost = True
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.lost()


class Application(Protocol):
    def __call__(self, exchange: Exchange) -> Receiver | None:
        """Begin to answer a request whose head has come; `None` where that needs no more."""
        ...
