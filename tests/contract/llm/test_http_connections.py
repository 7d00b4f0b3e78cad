"""How connections are made, shared, kept, distrusted, limited and closed."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable

import pytest

from raw_http import (
    HELLO,
    OK,
    Peer,
    RawServer,
    Recorder,
    Serve,
    answering,
    connections_of,
    exchange_with,
    raw_server,
    repeating,
    send,
)
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.client import Phase
from understudy.llm.http.connector import Addresses, Network
from understudy.llm.http.endpoint import Endpoint, HttpSessions, Pool

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MANY = 32 * 1024 * 1024
READ_AHEAD = 256 * 1024
"""What the event loop reads at once."""


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


def endpoint(
    sessions: HttpSessions,
    server: RawServer,
    *,
    keepalive_s: float = 15.0,
    in_flight: int = 256,
    clock: Callable[[], float] | None = None,
) -> Endpoint:
    pool = Pool(5.0, keepalive_s, in_flight)
    if clock is None:
        return Endpoint(sessions, server.url, headers={}, pool=pool)
    return Endpoint(sessions, server.url, headers={}, pool=pool, clock=clock)


async def forever(peer: Peer) -> None:
    """Answer every request of a connection."""
    while True:
        await peer.request()
        await peer.send(HELLO)


# Reuse.


async def test_a_connection_is_reused_and_said_to_be(sessions: HttpSessions) -> None:
    async with raw_server(forever) as server:
        there = endpoint(sessions, server)
        first, second = await exchange_with(there), await exchange_with(there)

        assert server.accepted == 1
    assert (first.exchange.reused_connection, second.exchange.reused_connection) == (False, True)
    assert (second.body, second.exchange.phase) == (b"hello", Phase.FIRST_TOKEN)


async def test_a_request_over_an_idle_connection_is_written_at_once(sessions: HttpSessions) -> None:
    async with raw_server(forever) as server:
        there = endpoint(sessions, server)
        await exchange_with(there)

        recorder = send(there)

        assert recorder.exchange.phase is Phase.HEADERS
        assert recorder.exchange.connect_s is not None
        await recorder.finished()


async def test_the_next_request_may_be_sent_from_within_the_end(sessions: HttpSessions) -> None:
    class Chain(Recorder):
        def end(self) -> None:
            if len(self.pieces) < 3:
                there.send("/x", b"{}", self.exchange, self)
            else:
                super().end()

    async with raw_server(forever) as server:
        there = endpoint(sessions, server)
        chain = Chain()
        there.send("/x", b"{}", chain.exchange, chain)
        await chain.finished()

        assert (chain.body, server.accepted) == (b"hello" * 3, 1)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        HELLO + b"more",
        HELLO + HELLO,
        HELLO + b"HTTP/1.1 2",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\nmore",
    ],
    ids=["close", "HTTP/1.0", "bytes after", "second response", "half a response", "after chunks"],
)
async def test_a_connection_that_cannot_be_trusted_further_is_closed(
    answer: bytes, sessions: HttpSessions
) -> None:
    async with raw_server(answering(answer, then="wait")) as server:
        there = endpoint(sessions, server)
        first, second = await exchange_with(there), await exchange_with(there)

        assert (first.body, second.body, server.accepted) == (b"hello", b"hello", 2)
        assert not second.exchange.reused_connection


async def test_http_1_0_may_ask_to_keep_the_connection(sessions: HttpSessions) -> None:
    answer = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"
    async with raw_server(repeating(answer, answer)) as server:
        there = endpoint(sessions, server)
        await exchange_with(there)
        second = await exchange_with(there)

        assert (second.body, server.accepted) == (b"hello", 1)


async def test_what_an_idle_server_says_closes_the_connection(sessions: HttpSessions) -> None:
    closed = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()
        closed.set()

    async with raw_server(serve) as server:
        there = endpoint(sessions, server)
        await exchange_with(there)
        await closed.wait()
        second = await exchange_with(there)

        assert (second.status, second.exchange.reused_connection) == (200, False)


async def test_an_idle_connection_is_closed_after_its_keep_alive(sessions: HttpSessions) -> None:
    closed = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.gone()
        closed.set()

    async with raw_server(serve) as server:
        await exchange_with(endpoint(sessions, server, keepalive_s=0.05))
        await closed.wait()

    assert connections_of(sessions) == []


async def test_endpoints_of_one_server_share_its_connections(sessions: HttpSessions) -> None:
    async with raw_server(forever) as server:
        await exchange_with(endpoint(sessions, server))
        second = await exchange_with(endpoint(sessions, server))
        other_class = await exchange_with(endpoint(sessions, server, keepalive_s=4.0))

    assert second.exchange.reused_connection
    assert not other_class.exchange.reused_connection


# Stale connections.


def closing_after(answers: int, how: str) -> Serve:
    """Answer, then read the next request and end the connection without a byte."""

    async def serve(peer: Peer) -> None:
        for _ in range(answers):
            await peer.request()
            await peer.send(HELLO)
        await peer.request()
        if how == "reset":
            peer.reset()

    return serve


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_reused_connection_that_ends_before_any_byte_is_stale(
    how: str, sessions: HttpSessions
) -> None:
    async with raw_server(closing_after(1, how)) as server:
        there = endpoint(sessions, server)
        await exchange_with(there)
        second = await exchange_with(there)

        assert second.error_class is ErrorClass.STALE_CONNECTION
        assert server.accepted == 1


async def test_after_one_byte_it_is_a_broken_response(sessions: HttpSessions) -> None:
    async with raw_server(repeating(HELLO, b"H")) as server:
        there = endpoint(sessions, server)
        await exchange_with(there)
        second = await exchange_with(there)

    assert second.error_class is ErrorClass.TRUNCATED_STREAM


async def test_after_a_stale_connection_no_older_one_is_used(sessions: HttpSessions) -> None:
    together = asyncio.Barrier(3)

    async def serve(peer: Peer) -> None:
        await peer.request()
        if server.accepted <= 3:
            await together.wait()
        await peer.send(HELLO)
        await peer.request()

    async with raw_server(serve) as server:
        there = endpoint(sessions, server)
        await asyncio.gather(*(exchange_with(there) for _ in range(3)))
        stale, fresh = await exchange_with(there), await exchange_with(there)

        assert stale.error_class is ErrorClass.STALE_CONNECTION
        assert (fresh.body, fresh.exchange.reused_connection) == (b"hello", False)


async def test_a_short_question_is_repeated_once(sessions: HttpSessions) -> None:
    async with raw_server(closing_after(1, "reset")) as server:
        there = endpoint(sessions, server)
        await there.ask("GET", "/x")
        answer = await there.ask("GET", "/x")

        assert (answer.body, server.accepted) == (b"hello", 2)


async def test_a_short_question_is_repeated_only_for_a_stale_connection(
    sessions: HttpSessions,
) -> None:
    async with raw_server(answering(then="reset")) as server:
        with pytest.raises(ProviderError) as caught:
            await endpoint(sessions, server).ask("GET", "/x")

        assert (caught.value.error_class, server.accepted) == (ErrorClass.TRUNCATED_STREAM, 1)


# What is sent.


async def test_requests_hold_what_they_need_and_the_endpoints_headers(
    sessions: HttpSessions,
) -> None:
    heads: list[bytes] = []

    async def serve(peer: Peer) -> None:
        while True:
            heads.append((await peer.request())[0])
            await peer.send(HELLO)

    async with raw_server(serve) as server:
        there = Endpoint(
            sessions,
            f"{server.url}/v1",
            headers={"Authorization": "Bearer k", "user-agent": "mine"},
            pool=Pool(5.0, 15.0),
        )
        await exchange_with(there, b"12345")
        await there.ask("GET", "/models?a=b c&d=%20")
        await there.ask("POST", f"{server.url}/abort")

    common = b"Authorization: Bearer k\r\nuser-agent: mine\r\n"
    host = f"Accept-Encoding: identity\r\nHost: 127.0.0.1:{server.port}\r\n".encode()
    assert heads == [
        b"POST /v1/x HTTP/1.1\r\n" + host + common + b"Content-Length: 5\r\n\r\n",
        b"GET /v1/models?a=b%20c&d=%20 HTTP/1.1\r\n" + host + common + b"\r\n",
        b"POST /abort HTTP/1.1\r\n" + host + common + b"Content-Length: 0\r\n\r\n",
    ]


# Limits.


async def test_calls_beyond_the_limit_wait_for_a_slot_in_order(sessions: HttpSessions) -> None:
    let_go = asyncio.Event()
    bodies: list[bytes] = []

    async def serve(peer: Peer) -> None:
        while True:
            bodies.append((await peer.request())[1])
            await let_go.wait()
            await peer.send(HELLO)

    async with raw_server(serve) as server:
        there = endpoint(sessions, server, in_flight=1)
        calls = [send(there, body) for body in (b"1", b"2", b"3")]
        let_go.set()
        await asyncio.gather(*(call.finished() for call in calls))

        assert (bodies, server.accepted) == ([b"1", b"2", b"3"], 1)


async def test_a_call_that_waits_for_a_slot_can_be_closed(sessions: HttpSessions) -> None:
    let_go = asyncio.Event()

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            await let_go.wait()
            await peer.send(HELLO)

    async with raw_server(serve) as server:
        there = endpoint(sessions, server, in_flight=1)
        first, waiting, last = send(there), send(there), send(there)
        assert waiting.call is not None
        waiting.call.close()
        let_go.set()
        await asyncio.gather(first.finished(), last.finished())

        assert (last.body, waiting.calls, waiting.call.done) == (b"hello", [], True)


@pytest.mark.parametrize("how", ["close", "fail", "detach"])
async def test_a_slot_is_free_however_its_call_ended(how: str, sessions: HttpSessions) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        if server.accepted > 1:
            await peer.send(HELLO)
            return
        await peer.send(CHUNKED + b"1\r\na\r\n")
        if how == "fail":
            peer.reset()
        await peer.gone()

    async with raw_server(serve) as server:
        there = endpoint(sessions, server, in_flight=1)
        first, second = send(there), send(there)
        await first.until(lambda first: first.body == b"a")
        assert first.call is not None
        if how == "close":
            first.call.close()
        elif how == "detach":
            first.call.detach(grace_s=60)
        await second.finished()

        assert second.body == b"hello"


async def test_a_port_without_server_is_refused_and_reported_later(sessions: HttpSessions) -> None:
    async with raw_server(forever) as server:
        there = endpoint(sessions, server)
    got = await exchange_with(there)

    assert (got.error_class, got.calls) == (ErrorClass.CONNECT_REFUSED, ["failed"])
    assert got.exchange.phase is Phase.CONNECT


async def test_callers_share_one_look_up_of_a_name() -> None:
    lookups: list[str] = []
    asked, found = asyncio.Barrier(3), asyncio.Event()

    class SlowNames(Network):
        async def _resolve(self, host: str, port: int) -> Addresses:
            lookups.append(host)
            await asked.wait()
            await found.wait()
            return await super()._resolve("localhost", port)

    network = SlowNames()
    both = asyncio.gather(network.addresses("a.example", 1), network.addresses("a.example", 1))
    other = asyncio.create_task(network.addresses("b.example", 1))
    gone = asyncio.create_task(network.addresses("b.example", 1))
    await asked.wait()
    gone.cancel()
    found.set()

    assert all(await both)
    assert await other
    assert lookups == ["a.example", "b.example"]
    await network.aclose()


# Closing.


async def closed_early(sessions: HttpSessions, serve: Serve, ready: asyncio.Event) -> None:
    """Close a call once the server has seen it; the server must see the end."""
    gone = asyncio.Event()

    async def watched(peer: Peer) -> None:
        await serve(peer)
        ready.set()
        await peer.gone()
        gone.set()

    async with raw_server(watched) as server:
        recorder = send(endpoint(sessions, server))
        await ready.wait()
        assert recorder.call is not None
        recorder.call.close()
        recorder.call.close()
        seen = list(recorder.calls)
        await gone.wait()

        assert recorder.calls == seen
        assert recorder.call.done


@pytest.mark.parametrize("sent", [b"", OK[:9], CHUNKED + b"5\r\nhel"], ids=["none", "head", "body"])
async def test_closing_a_call_reaches_the_socket(sent: bytes, sessions: HttpSessions) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)

    await closed_early(sessions, serve, asyncio.Event())


async def test_closing_a_call_while_it_connects_leaves_nothing_open(sessions: HttpSessions) -> None:
    async with raw_server(forever) as server:
        recorder = send(endpoint(sessions, server))
        assert recorder.call is not None
        recorder.call.close()
        await exchange_with(endpoint(sessions, server))

        assert recorder.calls == []
        assert len(connections_of(sessions)) == 1


@pytest.mark.parametrize("where", ["head", "data"])
async def test_a_receiver_may_close_its_call_from_within(
    where: str, sessions: HttpSessions
) -> None:
    class Leaving(Recorder):
        def head(self, status: int, headers: object) -> None:
            super().head(status, headers)  # type: ignore[arg-type]
            if where == "head":
                self.call.close()  # type: ignore[union-attr]

        def data(self, data: bytes) -> None:
            super().data(data)
            self.call.close()  # type: ignore[union-attr]

    gone = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.gone()
        gone.set()

    async with raw_server(serve) as server:
        leaving = Leaving()
        leaving.call = endpoint(sessions, server).send("/x", b"{}", leaving.exchange, leaving)
        await gone.wait()

        assert leaving.calls == (["head"] if where == "head" else ["head", "data"])


async def test_a_detached_response_that_ends_soon_leaves_its_connection(
    sessions: HttpSessions,
) -> None:
    detached, drained = asyncio.Event(), asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"6\r\n[DONE]\r\n")
        await detached.wait()
        await peer.send(b"2\r\n\n\n\r\n0\r\n\r\n")
        drained.set()
        await peer.request()
        await peer.send(HELLO)

    async with raw_server(serve) as server:
        there = endpoint(sessions, server)
        first = send(there)
        await first.until(lambda first: first.body == b"[DONE]")
        assert first.call is not None
        first.call.detach(grace_s=60)
        first.call.close()
        detached.set()
        await drained.wait()
        second = await exchange_with(there)

        assert (second.exchange.reused_connection, first.calls) == (True, ["head", "data"])


async def test_a_detached_response_that_does_not_end_is_closed(sessions: HttpSessions) -> None:
    gone = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"6\r\n[DONE]\r\n")
        await peer.gone()
        gone.set()

    async with raw_server(serve) as server:
        first = send(endpoint(sessions, server))
        await first.until(lambda first: first.body == b"[DONE]")
        assert first.call is not None
        first.call.detach()
        await gone.wait()

        assert first.calls == ["head", "data"]


async def test_closing_the_sessions_ends_what_is_under_way(sessions: HttpSessions) -> None:
    class Stubborn(Recorder):
        def failed(self, error: ProviderError) -> None:
            super().failed(error)
            if len(self.calls) < 3:
                there.send("/x", b"{}", self.exchange, self)

    arrived = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        arrived.set()
        await peer.gone()

    async with raw_server(serve) as server:
        there = endpoint(sessions, server)
        flying, stubborn = send(there), Stubborn()
        await arrived.wait()
        there.send("/x", b"{}", stubborn.exchange, stubborn)
        await sessions.aclose()
        await stubborn.until(lambda stubborn: len(stubborn.calls) == 3)

        assert flying.error_class is ErrorClass.CANCELLED
        assert stubborn.calls == ["failed"] * 3
        assert connections_of(sessions) == []


async def test_closing_the_sessions_closes_idle_connections(sessions: HttpSessions) -> None:
    gone = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.gone()
        gone.set()

    async with raw_server(serve) as server:
        await exchange_with(endpoint(sessions, server))
        await sessions.aclose()

        assert connections_of(sessions) == []
        await gone.wait()


async def test_sessions_can_be_used_again_after_closing(sessions: HttpSessions) -> None:
    async with raw_server(forever) as server:
        there = endpoint(sessions, server)
        await exchange_with(there)
        await sessions.aclose()

        assert (await exchange_with(there)).body == b"hello"


def test_sessions_work_in_one_event_loop_after_another() -> None:
    sessions = HttpSessions()

    async def life() -> tuple[bytes, bool]:
        async with raw_server(forever) as server:
            there = endpoint(sessions, server)
            await exchange_with(there)
            got = await exchange_with(there)
            await sessions.aclose()
        return got.body, got.exchange.reused_connection

    assert [asyncio.run(life()) for _ in range(3)] == [(b"hello", True)] * 3


async def test_a_receiver_that_raises_is_reported_and_its_call_fails(
    sessions: HttpSessions,
) -> None:
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, report: reports.append(report))

    def bug(_data: bytes) -> None:
        raise LookupError("a bug")

    async with raw_server(answering(HELLO, then="wait")) as server:
        got = await send(endpoint(sessions, server), on_data=bug).finished()

    assert (got.error_class, got.ended) == (ErrorClass.INTERNAL, False)
    assert [type(report["exception"]) for report in reports] == [LookupError]


@pytest.mark.parametrize(
    "answer", [HELLO, CHUNKED + b"9\r\nhel", b"SSH-2.0"], ids=["ended", "cut", "no HTTP"]
)
async def test_a_call_that_is_over_leaves_nothing_for_the_garbage_collector(
    answer: bytes, sessions: HttpSessions
) -> None:
    async with raw_server(answering(answer)) as server:
        there = endpoint(sessions, server)
        gc.collect()
        gc.disable()
        try:
            got = await exchange_with(there)
            receiver, call = weakref.ref(got), got.call
            del got
            assert call is not None
            assert call.done
            del call
            assert receiver() is None
        finally:
            gc.enable()


# Flow control.


async def test_a_paused_response_stays_with_the_server(sessions: HttpSessions) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        if server.accepted > 1:
            await peer.send(HELLO)
            return
        await peer.send(OK + b"Content-Length: %d\r\n\r\n" % MANY)
        await peer.send(bytes(MANY))

    async with raw_server(serve) as server:
        there = endpoint(sessions, server)
        got = send(there)
        assert got.call is not None
        got.on_data = lambda _data: got.call.pause_reading()  # type: ignore[union-attr]
        await got.until(lambda got: bool(got.body))
        for _ in range(20):
            await exchange_with(there)
        assert len(got.body) <= READ_AHEAD

        got.on_data = None
        got.call.resume_reading()
        await got.finished()

        assert (len(got.body), got.ended) == (MANY, True)


async def test_a_response_that_ends_while_paused_leaves_a_usable_connection(
    sessions: HttpSessions,
) -> None:
    async with raw_server(forever) as server:
        there = endpoint(sessions, server)
        first = send(there)
        assert first.call is not None
        first.on_data = lambda _data: first.call.pause_reading()  # type: ignore[union-attr]
        await first.finished()
        second = await exchange_with(there)

        assert (second.body, server.accepted) == (b"hello", 1)


async def test_pausing_before_the_connection_is_made_holds_the_response(
    sessions: HttpSessions,
) -> None:
    answered = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        answered.set()
        await peer.gone()

    async with raw_server(serve) as server:
        got = send(endpoint(sessions, server))
        assert got.call is not None
        got.call.pause_reading()
        await answered.wait()
        assert got.calls == []
        got.call.resume_reading()
        await got.finished()

        assert got.body == b"hello"


async def test_a_large_upload_waits_for_its_server(sessions: HttpSessions) -> None:
    read_on = asyncio.Event()
    sizes: list[int] = []

    async def serve(peer: Peer) -> None:
        head = await peer.head()
        if b"content-length: 2\r\n" in head.lower():
            await peer.reader.readexactly(2)
            await peer.send(HELLO)
            return
        await read_on.wait()
        sizes.append(len(await peer.reader.readexactly(MANY)))
        await peer.send(HELLO)

    async with raw_server(serve) as server:
        there = endpoint(sessions, server)
        got = send(there, bytes(MANY))
        while not any(connection._write_paused for connection in connections_of(sessions)):
            await exchange_with(there)
        waiting = max(
            c._transport.get_write_buffer_size()
            for c in connections_of(sessions)
            if c._transport is not None
        )
        assert 0 < waiting < 1024 * 1024

        read_on.set()
        await got.finished()

        assert (got.body, sizes) == (b"hello", [MANY])


async def test_a_slow_reader_gets_every_byte_of_an_upload(sessions: HttpSessions) -> None:
    body = bytes(range(256)) * 4096
    taken = bytearray()

    async def serve(peer: Peer) -> None:
        await peer.head()
        while len(taken) < len(body):
            taken.extend(await peer.reader.read(5000))
            await asyncio.sleep(0)
        await peer.send(HELLO)

    async with raw_server(serve) as server:
        got = await exchange_with(endpoint(sessions, server), body)

    assert (got.body, bytes(taken) == body) == (b"hello", True)
