"""Calls a gateway through the HTTP server's protocol, over a transport in memory."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from understudy.gateway.app import Gateway
from understudy.http_server.connection import Connection
from understudy.http_server.state import ClientLimits, ServerState

LOCAL = {"host": "127.0.0.1:8006"}


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def data(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.body))

    @property
    def error(self) -> dict[str, object]:
        return cast("dict[str, object]", self.data["error"])

    @property
    def frames(self) -> list[dict[str, object]]:
        lines = self.body.split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; the client at its other end is at `peer`."""

    def __init__(self, peer: str) -> None:
        super().__init__({"peername": (peer, 50_000), "sockname": ("127.0.0.1", 8006)})
        self.written = bytearray()
        self.changed = asyncio.Event()

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data
        self.changed.set()

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.changed.set()

    abort = close

    def pause_reading(self) -> None:
        """Nothing more comes."""

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


@dataclass
class Client:
    """One request of one client, which may hang up."""

    gateway: Gateway
    peer: str = "127.0.0.1"
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the first bytes of the answer."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Those that run for the request."""

    async def call(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        headers: Mapping[str, str] = LOCAL,
    ) -> Answer:
        """Return the answer; what came of it where the client hung up."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-length": str(len(raw)), "connection": "close"} | dict(headers)
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        state = ServerState(self.gateway, ClientLimits())
        self.tasks = state.tasks
        connection, transport = Connection(state), MemoryTransport(self.peer)
        connection.connection_made(transport)
        connection.data_received(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + raw)
        hanging_up = asyncio.create_task(self._hang_up(transport))
        try:
            while not (self.hung_up.is_set() or connection._closing):
                await transport.changed.wait()
                transport.changed.clear()
                if transport.written:
                    self.begun.set()
        finally:
            hanging_up.cancel()
            connection.connection_lost(None)
            state.stop()
            await state.end()
        return _parsed(bytes(transport.written))

    async def _hang_up(self, transport: MemoryTransport) -> None:
        await self.hung_up.wait()
        transport.changed.set()


def _parsed(response: bytes) -> Answer:
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    return Answer(int(first.split()[1]) if first else 0, headers, body)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        whole += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return whole


async def get(gateway: Gateway, path: str, **headers: str) -> Answer:
    return await Client(gateway).call(path, b"", method="GET", headers={**LOCAL, **headers})


async def post(gateway: Gateway, body: object, **headers: str) -> Answer:
    return await Client(gateway).call("/v1/chat/completions", body, headers={**LOCAL, **headers})
