"""Clients that speak HTTP badly, or hardly at all."""

import asyncio
import logging
from contextlib import suppress

import pytest
from starlette.types import Receive, Scope, Send

from asgi_answer import answer
from understudy.http_server.asgi import AsgiApplication
from understudy.http_server.exchange import Exchange
from understudy.http_server.server import WebServer
from understudy.http_server.state import ClientLimits
from understudy.platforms.web.chat import BROWSER_COOKIE
from waiting import LIMIT_S
from web_double import reply_text
from web_setup import CHAT, open_client

BEGINNING = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


HASTY = ClientLimits(head_s=0.5, body_s=0.5)


async def hello(_scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await answer(send, b"hello")


async def _said(server: WebServer, *pieces: bytes) -> bytes:
    """What the server says to these pieces until it never_ends up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), LIMIT_S)
    except ConnectionError:
        return b"cut off"
    finally:
        writer.close()


@pytest.mark.parametrize("name", [b"X-Long: ", b"X-%d: x\r\n"])
async def test_a_head_without_end_is_not_collected(name: bytes) -> None:
    one = b"a" * 32_000 if name.endswith(b" ") else name * 4_000
    async with WebServer(AsgiApplication(hello), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(BEGINNING + name)
        sent = 0
        while sent < 10_000_000 and not reader.at_eof():
            writer.write(one)
            sent += len(one)
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0)

        assert sent < 5_000_000
        writer.close()


async def test_a_large_body_and_a_large_cookie_are_none_of_it() -> None:
    body = b"b" * 500_000
    head = BEGINNING + b"Cookie: " + b"c" * 30_000 + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    last = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    async with WebServer(AsgiApplication(hello), "127.0.0.1", 0) as server:
        said = await _said(server, head + body + last[:20], last[20:])

    assert said.count(b"200 OK") == 2


@pytest.mark.parametrize(
    ("piece", "answer"),
    [
        (b"", b""),
        (BEGINNING, b"HTTP/1.1 408 "),
        (BEGINNING + b"Content-Length: 9\r\n\r\nhalf", b"HTTP/1.1 408 "),
    ],
)
async def test_who_never_sends_a_whole_request_is_hung_up_on(piece: bytes, answer: bytes) -> None:
    async with WebServer(AsgiApplication(hello), "127.0.0.1", 0, limits=HASTY) as server:
        assert (await _said(server, piece))[:13] == answer


async def test_where_there_are_too_many_the_longest_silent_makes_room() -> None:
    async with WebServer(
        AsgiApplication(hello), "127.0.0.1", 0, limits=ClientLimits(connections=3)
    ) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
        said = await _said(server, BEGINNING + b"Connection: close\r\n\r\n")

        assert said.endswith(b"hello")
        for reader, _ in silent[:3]:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), LIMIT_S) == b""
        assert not silent[4][0].at_eof()
        for _, writer in silent:
            writer.close()


async def test_nobody_who_is_being_answered_makes_room() -> None:
    asking, gate = asyncio.Event(), asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        asking.set()
        await gate.wait()
        await answer(send, b"hello")

    request = BEGINNING + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    async with WebServer(
        AsgiApplication(slow), "127.0.0.1", 0, limits=ClientLimits(connections=1)
    ) as server:
        answered = asyncio.create_task(_said(server, request))
        await asking.wait()
        assert b"hello" not in await _said(server, request)
        gate.set()

        assert (await answered).endswith(b"hello")


async def test_a_slow_answer_is_none_of_it() -> None:
    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(HASTY.head_s * 3)
        await answer(send, b"hello")

    async with WebServer(AsgiApplication(slow), "127.0.0.1", 0, limits=HASTY) as server:
        said = await _said(server, BEGINNING + b"Connection: close\r\nContent-Length: 0\r\n\r\n")

    assert said.endswith(b"hello")


async def test_a_message_that_breaks_off_on_its_way_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_client(reply_text("Hi")) as page:
        port = int(page.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        cookie = next(iter(page.http.cookie_jar)).value
        browser = f"Cookie: {BROWSER_COOKIE}={cookie}\r\n"
        path = f"POST /api/chats/{CHAT}/messages HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        writer.write(f"{path}{browser}Content-Length: 500\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await page.say("hello") == 202

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


CHUNKED = BEGINNING + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def _flood(server: WebServer, beginning: bytes, piece: bytes) -> int:
    """Sends `piece` again and again, and reads nothing; how many bytes were accepted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(beginning)
    sent = 0
    with suppress(ConnectionError):
        while sent < 20_000_000:
            writer.write(piece)
            sent += len(piece)
            async with asyncio.timeout(LIMIT_S):
                await writer.drain()
            if reader.at_eof():
                break
    writer.close()
    return sent


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (CHUNKED, b"X-T: a\r\n" * 8_000),
        (CHUNKED + b"X-T: ", b"a" * 64_000),
        (CHUNKED[:-10] + b"5;", b"a" * 64_000),
    ],
    ids=["lines", "one line", "chunk extension"],
)
async def test_what_follows_a_body_is_limited_like_a_head(beginning: bytes, piece: bytes) -> None:
    async with WebServer(AsgiApplication(hello), "127.0.0.1", 0) as server:
        assert await _flood(server, beginning, piece) < 10_000_000


async def test_trailers_do_not_become_headers() -> None:
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.extend(name for name, _ in scope["headers"])
        await answer(send, b"hello")

    async with WebServer(AsgiApplication(app), "127.0.0.1", 0) as server:
        last = b"Authorization: x\r\n\r\n" + GET[:-2] + b"Connection: close\r\n\r\n"
        said = await _said(server, CHUNKED, last)

    assert said.count(b"200 OK") == 2
    assert b"authorization" not in seen


async def test_a_few_requests_may_wait_in_line() -> None:
    async with WebServer(AsgiApplication(hello), "127.0.0.1", 0) as server:
        said = await _said(server, GET * 6 + GET[:-2] + b"Connection: close\r\n\r\n")

    assert said.count(b"200 OK") == 7


async def test_a_connection_with_too_many_requests_in_line_is_closed() -> None:
    async with WebServer(AsgiApplication(hello), "127.0.0.1", 0) as server:
        assert await _flood(server, b"", GET * 1_000) < 10_000_000


async def test_requests_of_a_client_that_does_not_read_are_not_begun() -> None:
    begun = 0

    def answering(exchange: Exchange) -> None:
        nonlocal begun
        begun += 1
        exchange.respond(200, b"", b"a" * 10_000_000)

    async with WebServer(answering, "127.0.0.1", 0) as server:
        assert await _flood(server, b"", GET * 4) < 10_000_000

    # The first fills the buffers of both sockets.
    assert begun <= 2


async def test_many_requests_at_once_close_the_connection_also_where_each_is_answered() -> None:
    def answering(exchange: Exchange) -> None:
        exchange.respond(200, b"", b"hello")

    async with WebServer(answering, "127.0.0.1", 0) as server:
        assert (await _said(server, GET * 1_000)).count(b"hello") <= 9


async def test_requests_in_line_are_answered_once_the_client_reads() -> None:
    def answering(exchange: Exchange) -> None:
        exchange.respond(200, b"", b"a" * 10_000_000)

    async with WebServer(answering, "127.0.0.1", 0) as server:
        said = await _said(server, GET * 2 + GET[:-2] + b"Connection: close\r\n\r\n")

    assert said.count(b"200 OK") == 3
    assert len(said) > 30_000_000


async def test_a_client_that_does_not_read_is_disconnected() -> None:
    ended = asyncio.Event()

    async def endless(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            # Sending after a disconnection does nothing, so the end is bounded.
            for _ in range(1_000):
                await send({"type": "http.response.body", "body": b"a" * 60_000, "more_body": True})
        finally:
            ended.set()

    limits = ClientLimits(write_s=0.1)
    async with WebServer(AsgiApplication(endless), "127.0.0.1", 0, limits=limits) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        async with asyncio.timeout(LIMIT_S):
            await ended.wait()
        writer.close()


async def test_a_disconnection_is_noticed_behind_requests_that_wait_in_line() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def listening(_scope: Scope, receive: Receive, _send: Send) -> None:
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with WebServer(AsgiApplication(listening), "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET * 3)
        await asked.wait()
        writer.transport.abort()
        async with asyncio.timeout(LIMIT_S):
            await left.wait()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"HTTP/1.1 400 "),
        (BEGINNING + b"a:b\r\n" * 300 + b"\r\n", b"HTTP/1.1 431 "),
    ],
)
async def test_heads_without_a_host_or_with_many_headers_are_refused(
    head: bytes, status: bytes
) -> None:
    async with WebServer(AsgiApplication(hello), "127.0.0.1", 0) as server:
        assert (await _said(server, head))[:13] == status
