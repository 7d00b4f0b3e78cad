"""How requests are answered: whole, in parts, one after the other, and at the server's end."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from understudy.http_server.asgi import AsgiApplication
from understudy.http_server.exchange import Application, Exchange, Receiver, header_lines
from understudy.http_server.server import WebServer
from understudy.http_server.state import ClientLimits
from waiting import LIMIT_S

REQUEST = b"%b / HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n"
GET = REQUEST % (b"GET", b"")
LAST = REQUEST % (b"GET", b"Connection: close\r\n")


def greet(exchange: Exchange) -> None:
    name = dict(exchange.headers).get(b"x-name", b"nothing").replace(b"%0A", b"\n")
    exchange.respond(200, header_lines([(b"x-greeted", name)]), b"hello")


def stream(exchange: Exchange) -> None:
    exchange.start(200, b"")
    exchange.write(b"hel")
    exchange.finish(b"lo")


class Echo:
    """Answers with the body, or refuses one that is too large."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.body = b""
        exchange.proceed()

    def data(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > 1_000_000:
            self.exchange.respond(413, b"", b"large")

    def end(self) -> None:
        self.exchange.respond(200, b"", self.body)

    def lost(self) -> None:
        """Nothing is held."""


async def answers(*requests: bytes, app: Application, limits: ClientLimits | None = None) -> bytes:
    """Send each request after the answer to the one before; return all bytes until the end."""
    async with WebServer(app, "127.0.0.1", 0, limits=limits) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        received = b""
        try:
            for request in requests:
                writer.write(request)
                received += await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(LIMIT_S):
                return received + await reader.read()
        except asyncio.IncompleteReadError as error:
            return received + error.partial
        finally:
            writer.close()


async def test_a_connection_carries_one_whole_response_after_the_other() -> None:
    received = await answers(GET, LAST, app=greet)

    assert received.count(b"HTTP/1.1 200 OK\r\ndate: ") == 2
    assert received.count(b"content-length: 5\r\n\r\nhello") == 2


@pytest.mark.parametrize(
    ("request_", "ends"),
    [
        (REQUEST % (b"HEAD", b"Connection: close\r\n"), b"content-length: 5\r\n\r\n"),
        (LAST, b"connection: close\r\ncontent-length: 5\r\n\r\nhello"),
        (b"GET / HTTP/1.0\r\n\r\n", b"connection: close\r\ncontent-length: 5\r\n\r\nhello"),
    ],
)
async def test_the_response_fits_its_request(request_: bytes, ends: bytes) -> None:
    received = await answers(request_, app=greet)

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(ends)


async def test_a_line_break_in_a_header_is_not_sent() -> None:
    received = await answers(REQUEST % (b"GET", b"X-Name: a%0Aset-cookie: b\r\n"), app=greet)

    assert b"set-cookie" not in received
    assert received.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (LAST, b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
        (b"GET / HTTP/1.0\r\n\r\n", b"\r\n\r\nhello"),
        (REQUEST % (b"HEAD", b"Connection: close\r\n"), b"\r\n\r\n"),
    ],
)
async def test_a_body_of_unknown_length_is_chunked_where_the_client_knows_that(
    request_: bytes, body: bytes
) -> None:
    received = await answers(request_, app=stream)

    assert received.endswith(body)
    assert (b"transfer-encoding: chunked" in received) is body.startswith(b"3")


async def test_a_client_that_waits_for_its_acceptance_is_asked_for_the_body() -> None:
    head = REQUEST % (
        b"POST",
        b"Connection: close\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n",
    )
    received = await answers(head, b"hi", app=Echo)

    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\nhi")


async def test_after_a_refusal_the_rest_of_the_body_is_discarded() -> None:
    large = REQUEST % (b"POST", b"Content-Length: 3000000\r\n") + b"a" * 3_000_000
    received = await answers(large, LAST, app=Echo)

    assert received.startswith(b"HTTP/1.1 413 ")
    assert received.count(b"HTTP/1.1 200 OK") == 1


async def test_after_a_refused_body_a_silent_client_is_disconnected() -> None:
    large = REQUEST % (b"POST", b"Content-Length: 1000001\r\n") + b"a" * 1_000_001
    received = await answers(large, app=Echo, limits=ClientLimits(idle_s=1.0))

    assert received.endswith(b"large")


@pytest.mark.parametrize("between", [b"", b"\r\n"])
async def test_a_connection_between_requests_is_closed_after_a_while(between: bytes) -> None:
    async with WebServer(greet, "127.0.0.1", 0, limits=ClientLimits(idle_s=1.0)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET + between)
        async with asyncio.timeout(LIMIT_S):
            assert (await reader.read()).endswith(b"hello")
        writer.close()


async def test_a_request_for_another_protocol_is_answered_in_this_one() -> None:
    upgrade = REQUEST % (b"GET", b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    received = await answers(upgrade + LAST, app=greet)

    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2


async def test_pipelined_bodies_reach_their_own_requests() -> None:
    released = asyncio.Event()

    def slow_first(exchange: Exchange) -> Receiver | None:
        if exchange.target != b"/first":
            return Echo(exchange)

        async def answer() -> None:
            await released.wait()
            exchange.respond(200, b"", b"first")

        exchange.run(answer())
        return None

    async with WebServer(slow_first, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write(REQUEST % (b"POST", b"Content-Length: 6\r\n") + b"second")
        writer.write(REQUEST % (b"POST", b"Content-Length: 5\r\nConnection: close\r\n") + b"third")
        await writer.drain()
        released.set()
        received = await reader.read()
        writer.close()

    bodies = [received.index(body) for body in (b"first", b"second", b"third")]
    assert bodies == sorted(bodies)


async def test_an_application_that_fails_is_an_error_of_the_server() -> None:
    async def fail() -> None:
        raise RuntimeError("a mistake")

    async def in_asgi(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"3")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"four"})

    received = await answers(GET, app=lambda exchange: exchange.run(fail()) and None)
    wrong_length = await answers(GET, app=AsgiApplication(in_asgi))

    assert received.startswith(b"HTTP/1.1 500 ")
    assert b"four" not in wrong_length


async def test_a_server_that_stops_answers_what_runs_and_closes() -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        begun.set()
        await released.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})

    async with WebServer(AsgiApplication(slow), "127.0.0.1", 0) as server:
        port = server.port
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await begun.wait()
        server.stop_accepting()
        assert await idle.read() == b""
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        released.set()
        received = await reader.read()
        for each in (writer, idle_writer):
            each.close()

    assert b"connection: close" in received
    assert b"late" in received


async def test_what_runs_past_the_grace_is_cancelled() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(_scope: Scope, _receive: Receive, _send: Send) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    limits = ClientLimits(grace_s=0.05)
    async with WebServer(AsgiApplication(endless), "127.0.0.1", 0, limits=limits) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await begun.wait()

    assert cancelled.is_set()
    writer.close()
