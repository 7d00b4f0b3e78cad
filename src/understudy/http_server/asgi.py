"""Runs ASGI applications, as those of Starlette, on our HTTP server."""

import asyncio
from collections.abc import Iterable
from typing import cast
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from understudy.http_server.exchange import Exchange, Header, header_lines

_HIGH_WATER = 65_536
"""Bytes of a body that wait for the application before reading pauses."""
_OURS = (b"connection", b"transfer-encoding")


class AsgiApplication:
    """Answers each request by a call of an ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, exchange: Exchange) -> "_Request":
        request = _Request(exchange)
        exchange.run(request.serve(self._app))
        return request


class _Request:
    """One request; `receive` and `send` are those of ASGI."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._body = bytearray()
        self._more = True
        self._changed = asyncio.Event()
        self._left: int | None = None
        """Bytes that the declared length of the response still wants."""

    async def serve(self, app: ASGIApp) -> None:
        await app(self._scope(), self.receive, self.send)

    def data(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > _HIGH_WATER:
            self._exchange.client.pause_reading()
        self._changed.set()

    def end(self) -> None:
        self._more = False
        self._changed.set()

    def lost(self) -> None:
        self._changed.set()

    async def receive(self) -> Message:
        exchange = self._exchange
        exchange.proceed()
        if not (exchange.lost or exchange.complete):
            # Reading is also how the end of the connection is noticed.
            exchange.client.resume_reading()
            await self._changed.wait()
            self._changed.clear()
        if exchange.lost or exchange.complete:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self._more}

    async def send(self, message: Message) -> None:
        exchange = self._exchange
        await exchange.drain()
        if exchange.lost:
            return
        expected = "http.response.body" if exchange.started else "http.response.start"
        if message["type"] != expected or exchange.complete:
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")
        if not exchange.started:
            self._start(message["status"], message.get("headers", ()))
            return
        body = message.get("body", b"")
        more = message.get("more_body", False)
        self._count(len(body), more=more)
        if more:
            exchange.write(body)
        else:
            exchange.finish(body)
            self._changed.set()

    def _start(self, status: int, headers: Iterable[Header]) -> None:
        exchange = self._exchange
        named = [(name.lower(), value) for name, value in headers]
        lengths = [int(value) for name, value in named if name == b"content-length"]
        if lengths and exchange.method != b"HEAD":
            self._left = lengths[0]
        if any(name == b"connection" and b"close" in value.lower() for name, value in named):
            exchange.close_after()
        lines = header_lines([header for header in named if header[0] not in _OURS])
        exchange.start(status, lines, sized=bool(lengths))
        # The body may come much later: a stream can start before its first event.
        self._loop.call_soon(exchange.write, b"")

    def _count(self, size: int, *, more: bool) -> None:
        """Raises RuntimeError for a body of another length than declared."""
        if self._left is None:
            return
        self._left -= size
        if self._left < 0 or (self._left and not more):
            raise RuntimeError("the body has another length than its Content-Length")

    def _scope(self) -> Scope:
        exchange = self._exchange
        raw_path = exchange.raw_path
        client = exchange.client
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.0" if exchange.http_1_0 else "1.1",
            "method": exchange.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": exchange.query,
            "root_path": "",
            "headers": exchange.headers,
            "client": (client.host, client.port) if client.host else None,
            "server": client.server,
            "state": cast("dict[str, object]", {}),
        }
