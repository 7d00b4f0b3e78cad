"""What one connection holds of the headers that it reads."""

import sys

import pytest

from gateway_call import MemoryTransport
from understudy.http_server.connection import Connection
from understudy.http_server.exchange import Exchange, Receiver
from understudy.http_server.state import ClientLimits, ServerState

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
LINES = b"a:\r\n" * 400
ENOUGH = 20
HEADERS = 400 * ENOUGH


class Application:
    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> Receiver | None:
        self.exchanges.append(exchange)
        return None


@pytest.fixture
def app() -> Application:
    return Application()


def connected(app: Application) -> tuple[Connection, MemoryTransport]:
    connection, transport = Connection(ServerState(app, ClientLimits())), MemoryTransport("1.2.3.4")
    connection.connection_made(transport)
    return connection, transport


async def test_a_head_of_too_many_headers_is_refused_before_it_is_complete(
    app: Application,
) -> None:
    connection, transport = connected(app)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n" + LINES)

    assert transport.written.startswith(b"HTTP/1.1 431 ")
    assert app.exchanges == []


async def test_headers_after_a_body_are_not_kept(app: Application) -> None:
    connection, transport = connected(app)
    connection.data_received(CHUNKED)

    blocks = sys.getallocatedblocks()
    for _ in range(ENOUGH):
        connection.data_received(LINES)
    blocks = sys.getallocatedblocks() - blocks
    connection.data_received(b"\r\n")

    (exchange,) = app.exchanges
    assert exchange.body_complete
    assert [name for name, _ in exchange.headers] == [b"host", b"transfer-encoding"]
    assert blocks < HEADERS / 4
    assert transport.written == b""
