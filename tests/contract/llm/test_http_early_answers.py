"""Answers that come while the request is still being sent, whenever the server then hangs up."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trustme
import uvloop

from certificates import served_by, trusting
from raw_http import (
    OK,
    Peer,
    RawServer,
    Recorder,
    connections_of,
    exchange_with,
    raw_server,
    send,
)
from understudy.llm.http.endpoint import Endpoint, HttpSessions, Pool
from understudy.llm.http.unread import MOST_AT_ONCE, UnreadBytes

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"
MANY = 32 * 1024 * 1024
SEVERAL = 4 * 1024 * 1024
ROUNDS = 60
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def tls() -> Iterator[ssl.SSLContext]:
    authority = trustme.CA()
    with trusting(authority):
        yield served_by(authority, "127.0.0.1")


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


def endpoint(sessions: HttpSessions, server: RawServer) -> Endpoint:
    return Endpoint(sessions, server.url, headers={}, pool=Pool(20.0, 15.0))


def hang_up_at_each_step(listening: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Answer and close after ever more bytes of a request, with the rest of it unread.

    Run in a thread, so that the reset can arrive at any step of an upload.
    """
    for turn in range(ROUNDS):
        accepted, _ = listening.accept()
        # Else the kernel may keep the answer back, and discard it when the socket is closed.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with tls.wrap_socket(accepted, server_side=True) if tls else accepted as peer:
            left = 1 + turn * 40_000
            while left > 0:
                left -= len(peer.recv(65536))
            peer.sendall(TOO_LARGE)


async def asked_again_and_again(port: int, scheme: str) -> tuple[list[Recorder], list[object]]:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, report: reports.append(report))
    sessions = HttpSessions()
    there = endpoint(sessions, RawServer(port, scheme))
    got = [await exchange_with(there, bytes(SEVERAL)) for _ in range(ROUNDS)]
    await sessions.aclose()
    assert UnreadBytes._open == 0
    return got, [*reports, *connections_of(sessions)]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_an_answer_is_heard_whenever_its_server_hangs_up(
    new_loop: Callable[[], asyncio.AbstractEventLoop], scheme: str, tls: ssl.SSLContext
) -> None:
    serving_tls = tls if scheme == "https" else None
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=hang_up_at_each_step, args=(listening, serving_tls))
        serving.start()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            port = listening.getsockname()[1]
            got, reports = runner.run(asked_again_and_again(port, scheme))
        serving.join()

    assert {(one.status, one.body, one.ended) for one in got} == {(413, b"big", True)}
    assert reports == []


@pytest.mark.parametrize("attempt", range(20))
async def test_an_answer_to_half_a_request_is_heard(attempt: int, sessions: HttpSessions) -> None:
    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.reader.read(attempt * 10_000 + 1)
        await peer.send(TOO_LARGE)

    async with raw_server(serve) as server:
        got = await exchange_with(endpoint(sessions, server), bytes(MANY))

    assert (got.status, got.body, got.ended) == (413, b"big", True)


async def test_large_requests_share_a_number_of_spare_descriptors(
    tls: ssl.SSLContext, sessions: HttpSessions
) -> None:
    requests = 2 * MOST_AT_ONCE
    all_there = asyncio.Barrier(requests + 1)

    async def serve(peer: Peer) -> None:
        await peer.head()
        await all_there.wait()
        await peer.send(TOO_LARGE)

    async with raw_server(serve, tls) as server:
        there = endpoint(sessions, server)
        got = [send(there, bytes(SEVERAL)) for _ in range(requests)]
        await all_there.wait()
        spare = [one for one in connections_of(sessions) if one._unread is not None]
        for one in got:
            await one.finished()

    assert len(spare) == MOST_AT_ONCE
    assert {one.status for one in got} == {413}
    assert UnreadBytes._open == 0


async def test_half_a_request_is_never_followed_by_another(sessions: HttpSessions) -> None:
    answer = b"HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\n\r\n"

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)
        await peer.gone()

    async with raw_server(serve) as server:
        there = endpoint(sessions, server)
        await exchange_with(there, bytes(MANY))
        second = await exchange_with(there)

        assert (second.exchange.reused_connection, server.accepted) == (False, 2)


async def test_a_stream_may_begin_before_the_request_is_all_sent(sessions: HttpSessions) -> None:
    sizes: list[int] = []

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        sizes.append(len(await peer.reader.readexactly(MANY)))
        await peer.send(b"0\r\n\r\n")

    async with raw_server(serve) as server:
        got = await exchange_with(endpoint(sessions, server), bytes(MANY))

    assert (got.body, got.ended, sizes) == (b"hello", True, [MANY])


@pytest.mark.parametrize("answered", [False, True])
async def test_closing_a_call_in_the_middle_of_an_upload_reaches_the_socket(
    answered: bool, sessions: HttpSessions
) -> None:
    ready, gone = asyncio.Event(), asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.head()
        if answered:
            await peer.send(CHUNKED + b"5\r\nhello\r\n")
        ready.set()
        await peer.gone()
        gone.set()

    async with raw_server(serve) as server:
        got = send(endpoint(sessions, server), bytes(MANY))
        await ready.wait()
        assert got.call is not None
        got.call.close()
        await asyncio.wait_for(gone.wait(), 20)
