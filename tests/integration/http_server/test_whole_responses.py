"""Responses that the server writes whole, past the messages of ASGI."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from understudy.gateway.client_connection import answer
from understudy.http_server.connection import EXTENSION
from understudy.http_server.server import WebServer

REQUEST = b"%b / HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n"


async def greet(scope: Scope, _receive: Receive, send: Send) -> None:
    name = dict(scope["headers"]).get(b"x-name", b"nothing").replace(b"%0A", b"\n")
    server = scope["extensions"][EXTENSION]["server"]
    await answer(send, 200, [(b"x-greeted", name)], b"hello", server)


async def answers(*requests: bytes, app: WebServer) -> bytes:
    """Send each request after the answer to the one before; return all bytes until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    received = b""
    try:
        for request in requests:
            writer.write(request)
            received += await reader.readuntil(b"\r\n\r\n")
        writer.write_eof()
        return received + await reader.read()
    except asyncio.IncompleteReadError as error:
        return received + error.partial
    finally:
        writer.close()


async def test_a_connection_carries_one_whole_response_after_the_other() -> None:
    async with WebServer(greet, "127.0.0.1", 0) as server:
        received = await answers(REQUEST % (b"GET", b""), REQUEST % (b"GET", b""), app=server)

    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert received.count(b"content-length: 5\r\n\r\nhello") == 2


@pytest.mark.parametrize(
    ("request_", "ends"),
    [
        (REQUEST % (b"HEAD", b""), b"content-length: 5\r\n\r\n"),
        (REQUEST % (b"GET", b"Connection: close\r\n"), b"connection: close\r\n\r\nhello"),
        (b"GET / HTTP/1.0\r\n\r\n", b"connection: close\r\n\r\nhello"),
    ],
)
async def test_what_needs_more_than_the_bytes_is_left_to_uvicorn(
    request_: bytes, ends: bytes
) -> None:
    async with WebServer(greet, "127.0.0.1", 0) as server:
        received = await answers(request_, app=server)

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(ends)


async def test_a_line_break_in_a_header_is_not_sent() -> None:
    async with WebServer(greet, "127.0.0.1", 0) as server:
        named = REQUEST % (b"GET", b"X-Name: a%0Aset-cookie: b\r\n")
        received = await answers(named, app=server)

    assert b"set-cookie" not in received
    assert not received.startswith(b"HTTP/1.1 200")
