"""Clients of the HTTP server: heads, bodies, trailers and pipelined requests, in any split."""

import asyncio

from starlette.types import Receive, Scope, Send

from understudy.http_server.asgi import AsgiApplication
from understudy.http_server.connection import Connection
from understudy.http_server.state import ClientLimits, ServerState

_LIMITS = ClientLimits(head_bytes=400, headers=8, pipelined=3)
_LOOP = asyncio.new_event_loop()
_MAX_STEPS = 50


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the whole body and answers."""
    while (await receive()).get("more_body"):
        pass
    assert len(scope["headers"]) <= _LIMITS.headers
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self._closing = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = True

    def pause_reading(self) -> None:
        """Reads go on: the server must hold its limits without it."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""

    def get_write_buffer_size(self) -> int:
        return 0


def http_request(data: bytes) -> None:
    """Whatever a client sends, the server answers or closes, and holds no more than its limits."""
    _LOOP.run_until_complete(_fed(data))


async def _fed(data: bytes) -> None:
    state = ServerState(AsgiApplication(_app), _LIMITS)
    connection = Connection(state)
    transport = _Transport()
    connection.connection_made(transport)
    step = data[0] % 64 + 1 if data else 1
    for at in range(1, len(data), step):
        if transport.is_closing():
            break
        connection.data_received(data[at : at + step])
        assert connection.in_line <= _LIMITS.pipelined
        if at % 3 == 0:
            await asyncio.sleep(0)
    for _ in range(_MAX_STEPS):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    # It ends the tasks that wait for a further request, and none that still answers one.
    state.stop()
    for _ in range(_MAX_STEPS):
        if not state.tasks:
            break
        await asyncio.sleep(0)
    assert not state.tasks
    assert connection.waits_until is None
