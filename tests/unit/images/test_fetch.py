"""Fetching over real sockets: limits, redirects and changing DNS answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from understudy.errors import ImageRefusal, ImageRefused
from understudy.images.fetch import ImageFetcher
from waiting import LIMIT_S


@asynccontextmanager
async def server(routes: list[web.RouteDef]) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Names:
    """A resolver that returns the given answers in order and repeats the last one."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)

    async def __call__(self, _host: str, _port: int) -> list[str]:
        return [self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]]


@asynccontextmanager
async def fetcher(
    *allowed: str, answers: tuple[str, ...] = ("127.0.0.1",), timeout_s: float = LIMIT_S
) -> AsyncIterator[ImageFetcher]:
    made = ImageFetcher(
        timeout_s=timeout_s, max_bytes=1000, allowed_hosts=allowed, resolve=Names(*answers)
    )
    try:
        yield made
    finally:
        await made.aclose()


async def refusal(made: ImageFetcher, link: str) -> ImageRefusal:
    with pytest.raises(ImageRefused) as caught:
        await made.fetch(link)
    return caught.value.reason


async def body(_request: web.Request) -> web.Response:
    return web.Response(body=b"picture")


async def test_an_allowed_host_is_fetched() -> None:
    async with server([web.get("/a.png", body)]) as port, fetcher(f"pics.lan:{port}") as made:
        assert await made.fetch(f"http://pics.lan:{port}/a.png") == b"picture"


async def test_a_name_with_a_private_address_is_refused_without_a_connection() -> None:
    async with fetcher() as made:
        assert await refusal(made, "https://innocent.example/a.png") is ImageRefusal.ADDRESS


async def test_a_redirect_to_a_private_address_is_refused() -> None:
    async def away(_request: web.Request) -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/latest/meta-data")

    async with server([web.get("/a.png", away)]) as port, fetcher(f"pics.lan:{port}") as made:
        assert await refusal(made, f"http://pics.lan:{port}/a.png") is ImageRefusal.ADDRESS


async def test_a_dns_answer_that_changes_to_private_is_refused() -> None:
    calls = 0

    async def away(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        raise web.HTTPFound(f"http://rebind.example/{calls}.png")

    async with (
        server([web.get("/a.png", away)]) as port,
        fetcher(f"pics.lan:{port}", answers=("127.0.0.1", "10.0.0.7")) as made,
    ):
        assert await refusal(made, f"http://pics.lan:{port}/a.png") is ImageRefusal.ADDRESS
        assert calls == 1


async def test_endless_redirects_are_refused() -> None:
    async def again(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.path)

    async with server([web.get("/a.png", again)]) as port, fetcher(f"pics.lan:{port}") as made:
        assert await refusal(made, f"http://pics.lan:{port}/a.png") is ImageRefusal.UNREACHABLE


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_refused(announced: bool) -> None:
    async def large(request: web.Request) -> web.StreamResponse:
        if announced:
            return web.Response(body=b"x" * 5000)
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(50):
            await response.write(b"x" * 100)
        return response

    async with server([web.get("/a.png", large)]) as port, fetcher(f"pics.lan:{port}") as made:
        reason = await refusal(made, f"http://pics.lan:{port}/a.png")

    assert reason is ImageRefusal.TOO_MANY_BYTES


@pytest.mark.slow
async def test_a_server_that_sends_too_slowly_times_out() -> None:
    gone = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.05)
        finally:
            gone.set()

    async with (
        server([web.get("/a.png", drip)]) as port,
        fetcher(f"pics.lan:{port}", timeout_s=0.5) as made,
    ):
        assert await refusal(made, f"http://pics.lan:{port}/a.png") is ImageRefusal.TIMEOUT
        await asyncio.wait_for(gone.wait(), LIMIT_S)


async def test_an_expired_link_says_so() -> None:
    async def expired(_request: web.Request) -> web.Response:
        return web.Response(status=404, text="This content is no longer available.")

    async with server([web.get("/a.png", expired)]) as port, fetcher(f"pics.lan:{port}") as made:
        with pytest.raises(ImageRefused, match="status 404"):
            await made.fetch(f"http://pics.lan:{port}/a.png")


async def test_a_compressed_body_is_not_decompressed() -> None:
    async def packed(_request: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b garbage", headers={"Content-Encoding": "gzip"})

    async with server([web.get("/a.png", packed)]) as port, fetcher(f"pics.lan:{port}") as made:
        assert await made.fetch(f"http://pics.lan:{port}/a.png") == b"\x1f\x8b garbage"


async def test_the_body_of_a_link_in_a_text_is_not_read_where_it_is_no_image() -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>a page</html>", content_type="text/html")

    async with server([web.get("/a", page)]) as port, fetcher(f"pics.lan:{port}") as made:
        with pytest.raises(ImageRefused, match="no image"):
            await made.fetch(f"http://pics.lan:{port}/a", from_text=True)
        assert await made.fetch(f"http://pics.lan:{port}/a") == b"<html>a page</html>"
