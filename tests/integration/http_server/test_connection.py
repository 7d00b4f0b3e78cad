"""Clients that speak HTTP badly, or hardly at all."""

import asyncio
import logging
from contextlib import suppress

import pytest
from starlette.types import Receive, Scope, Send

from understudy.gateway.client_connection import answer
from understudy.http_server.connection import ClientLimits
from understudy.http_server.server import WebServer
from understudy.platforms.web.chat import BROWSER_COOKIE
from web_double import says
from web_setup import CHAT, site

BEGINNING = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


HASTY = ClientLimits(head_s=0.1, body_s=0.1)


async def hello(_scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await answer(send, 200, [], b"hello")


async def _said(server: WebServer, *pieces: bytes) -> bytes:
    """What the server says to these pieces until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b"cut off"
    finally:
        writer.close()


@pytest.mark.parametrize("name", [b"X-Long: ", b"X-%d: x\r\n"])
async def test_a_head_without_end_is_not_collected(name: bytes) -> None:
    one = b"a" * 32_000 if name.endswith(b" ") else name * 4_000
    async with WebServer(hello, "127.0.0.1", 0) as server:
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
    async with WebServer(hello, "127.0.0.1", 0) as server:
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
    async with WebServer(hello, "127.0.0.1", 0, limits=HASTY) as server:
        assert (await _said(server, piece))[:13] == answer


async def test_where_there_are_too_many_the_longest_silent_makes_room() -> None:
    async with WebServer(hello, "127.0.0.1", 0, limits=ClientLimits(connections=3)) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
        said = await _said(server, BEGINNING + b"Connection: close\r\n\r\n")

        assert said.endswith(b"hello")
        for reader, _ in silent[:3]:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 1) == b""
        assert not silent[4][0].at_eof()
        for _, writer in silent:
            writer.close()


async def test_nobody_who_is_being_answered_makes_room() -> None:
    asking, gate = asyncio.Event(), asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        asking.set()
        await gate.wait()
        await answer(send, 200, [], b"hello")

    request = BEGINNING + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    async with WebServer(slow, "127.0.0.1", 0, limits=ClientLimits(connections=1)) as server:
        answered = asyncio.create_task(_said(server, request))
        await asking.wait()
        assert b"hello" not in await _said(server, request)
        gate.set()

        assert (await answered).endswith(b"hello")


async def test_a_slow_answer_is_none_of_it() -> None:
    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(HASTY.head_s * 3)
        await answer(send, 200, [], b"hello")

    async with WebServer(slow, "127.0.0.1", 0, limits=HASTY) as server:
        said = await _said(server, BEGINNING + b"Connection: close\r\nContent-Length: 0\r\n\r\n")

    assert said.endswith(b"hello")


async def test_a_message_that_breaks_off_on_its_way_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site(says("Hi")) as page:
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
