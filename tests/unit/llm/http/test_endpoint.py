"""What the network does → the taxonomy, each cause by its own name."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from playback import Recording, playing
from raw_http import exchange_with, send
from understudy.errors import ErrorClass
from understudy.llm.http.endpoint import MAX_IN_FLIGHT, Endpoint, HttpSessions, Pool


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


def endpoint(
    sessions: HttpSessions, url: str, connect_s: float = 1.0, in_flight: int = MAX_IN_FLIGHT
) -> Endpoint:
    return Endpoint(sessions, url, headers={}, pool=Pool(connect_s, 4.0, in_flight))


async def failure(server: Endpoint) -> ErrorClass | None:
    return (await exchange_with(server)).error_class


async def test_a_closed_port_is_refused(sessions: HttpSessions) -> None:
    assert await failure(endpoint(sessions, "http://127.0.0.1:9")) is ErrorClass.CONNECT_REFUSED


async def test_a_host_without_address_is_dns(sessions: HttpSessions) -> None:
    server = endpoint(sessions, "http://nobody.invalid", connect_s=20)

    assert await failure(server) is ErrorClass.DNS


async def test_a_plain_server_behind_https_is_tls(sessions: HttpSessions) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        assert await failure(endpoint(sessions, url)) is ErrorClass.TLS


async def test_a_server_that_never_shakes_hands_is_a_connect_timeout(
    sessions: HttpSessions,
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        assert await failure(endpoint(sessions, url, 0.2)) is ErrorClass.CONNECT_TIMEOUT


async def test_what_is_no_http_is_a_bad_body(sessions: HttpSessions) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        assert await failure(endpoint(sessions, url)) is ErrorClass.BAD_BODY


@pytest.mark.slow
async def test_more_at_once_than_the_pool_holds_wait_a_second(sessions: HttpSessions) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        there = endpoint(sessions, url, in_flight=3)
        held = [send(there).call for _ in range(3)]

        assert await failure(there) is ErrorClass.POOL_TIMEOUT
        for call in held:
            assert call is not None
            call.close()


async def test_a_whole_answer_is_read_with_its_headers_in_lower_case(
    sessions: HttpSessions,
) -> None:
    page = Recording("", "GET /x", 200, {"X-Thing": "1"}, ["he", "llo"])
    async with playing({page.request: page}) as playback:
        answer = await endpoint(sessions, playback.url).ask("GET", "/x")

    assert (answer.status, answer.body, answer.headers["x-thing"]) == (200, b"hello", "1")
