"""Limits on bodies and event streams of all clients together."""

import asyncio
import re
from contextlib import AsyncExitStack

import aiohttp
from starlette.types import Receive, Scope, Send

from asgi_answer import answer
from understudy.http_server.asgi import AsgiApplication
from understudy.http_server.body_budget import FREE_BYTES, BodyBudget
from understudy.http_server.server import WebServer
from understudy.http_server.stream_limits import LimitedStreams, StreamLimits
from waiting import LIMIT_S


async def count(_scope: Scope, receive: Receive, send: Send) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        size += len(message["body"])
        more = message["more_body"]
    await answer(send, b"%d" % size)


async def test_a_body_beyond_what_all_may_hold_is_refused() -> None:
    async with (
        WebServer(AsgiApplication(BodyBudget(count, 200_000)), "127.0.0.1", 0) as server,
        aiohttp.ClientSession() as http,
    ):
        async with http.post(server.url, data=b"a" * 150_000) as fits:
            assert await fits.text() == "150000"
        async with http.post(server.url, data=b"a" * 300_000) as too_large:
            assert too_large.status == 429
            assert too_large.headers["Retry-After"] == "5"


async def test_unfinished_bodies_leave_room_for_a_short_one() -> None:
    async with (
        WebServer(AsgiApplication(BodyBudget(count, 200_000)), "127.0.0.1", 0) as server,
        aiohttp.ClientSession() as http,
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999\r\n\r\n"
        writer.write(head + b"a" * 260_000)
        await writer.drain()
        status = 200
        while status == 200:
            async with http.post(server.url, data=b"a" * 100_000) as large:
                status = large.status
        async with http.post(server.url, data=b"a" * (FREE_BYTES - 1)) as short:
            assert short.status == 200

        assert status == 429
        writer.close()


async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_streams_are_limited_by_browser_and_by_address() -> None:
    limits = StreamLimits(per_browser=2, per_address=3, total=4)
    app = LimitedStreams(stream, limits, cookie="browser", paths=re.compile("/events"))
    async with (
        WebServer(AsgiApplication(app), "127.0.0.1", 0) as server,
        aiohttp.ClientSession() as http,
        AsyncExitStack() as opened,
    ):

        async def status(browser: str, address: str = "127.0.0.1") -> int:
            connector = aiohttp.TCPConnector(local_addr=(address, 0))
            client = await opened.enter_async_context(aiohttp.ClientSession(connector=connector))
            cookie = {"Cookie": f"browser={browser}"}
            request = client.get(f"{server.url}/events", headers=cookie)
            return (await opened.enter_async_context(request)).status

        assert [await status("one") for _ in range(3)] == [200, 200, 429]
        assert [await status("two") for _ in range(2)] == [200, 429]
        assert [await status("three", "127.0.0.2") for _ in range(2)] == [200, 429]
        async with http.get(f"{server.url}/other") as other:
            assert other.status == 200


async def test_a_closed_stream_gives_its_place_back() -> None:
    limits = StreamLimits(per_browser=1, per_address=1, total=1)
    app = LimitedStreams(stream, limits, cookie="browser", paths=re.compile("/events"))
    async with WebServer(AsgiApplication(app), "127.0.0.1", 0) as server:
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/events") as first:
            assert first.status == 200
        status = 429
        async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession() as http:
            while status == 429:
                async with http.get(f"{server.url}/events") as again:
                    status = again.status

    assert status == 200
