"""Every way in which a server may answer, byte by byte: what the receiver gets."""

import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from raw_http import HELLO, OK, Peer, Recorder, Serve, answering, exchange_with, raw_server, send
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.client import Phase
from understudy.llm.http.encoding import MAX_DECODED_BYTES, STEP_BYTES
from understudy.llm.http.endpoint import Endpoint, HttpSessions, Pool
from understudy.llm.http.parser import MAX_INFORMATIONAL

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n"
TEXT = b"The understudy knows every line. " * 2000


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


def endpoint(sessions: HttpSessions, url: str) -> Endpoint:
    return Endpoint(sessions, url, headers={"X-Test": "1"}, pool=Pool(5.0, 15.0))


async def received(sessions: HttpSessions, serve: Serve) -> Recorder:
    async with raw_server(serve) as server:
        return await exchange_with(endpoint(sessions, server.url))


def sized(body: bytes, head: bytes = OK) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


WHOLE = {
    "length": ([HELLO], b"hello"),
    "length in pieces": ([HELLO[:3], HELLO[3:20], HELLO[20:-2], HELLO[-2:]], b"hello"),
    "chunks": ([CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"], b"hello"),
    "chunks cut everywhere": (
        [CHUNKED, b"2", b"\r", b"\nh", b"e\r\n3\r", b"\nllo\r\n0", b"\r\n\r", b"\n"],
        b"hello",
    ),
    "chunk extension": ([CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n'], b"hello"),
    "space after the chunk size": ([CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n"], b"hello"),
    "trailers": ([CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX: 2\r\n\r\n"], b"hello"),
    "until close": ([OK + b"\r\nhel", b"lo"], b"hello"),
    "HTTP/1.0 until close": ([b"HTTP/1.0 200 OK\r\n\r\nhello"], b"hello"),
    "HTTP/1.0 with length": ([b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"], b"hello"),
    "no body at all": ([OK + b"Content-Length: 0\r\n\r\n"], b""),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
    "304 with a length": ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"], b""),
    "bare line feeds": ([HELLO.replace(b"\r\n", b"\n")], b"hello"),
    "folded header": ([OK + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello"], b"hello"),
    "no reason phrase": ([b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"], b"hello"),
    "informational first": (
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", HELLO],
        b"hello",
    ),
    "upgrade offered": (
        [sized(b"hello", OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\n")],
        b"hello",
    ),
    "identity": ([sized(b"hello", OK + b"Content-Encoding: identity\r\n")], b"hello"),
    "gzip": ([sized(gzip.compress(TEXT), GZIP)], TEXT),
    "gzip in chunks": (
        [
            GZIP + b"Transfer-Encoding: chunked\r\n\r\n",
            *(b"1\r\n%c\r\n" % byte for byte in gzip.compress(b"hello")),
            b"0\r\n\r\n",
        ],
        b"hello",
    ),
    "gzip until close": ([GZIP + b"\r\n" + gzip.compress(TEXT)], TEXT),
    "gzip of two members": ([sized(gzip.compress(b"he") + gzip.compress(b"llo"), GZIP)], b"hello"),
    "gzip with padding": ([sized(gzip.compress(b"hello") + b"\0\0", GZIP)], b"hello"),
    "gzip of nothing": ([sized(b"", GZIP)], b""),
    "deflate": ([sized(zlib.compress(TEXT), OK + b"Content-Encoding: deflate\r\n")], TEXT),
    "raw deflate": (
        [sized(zlib.compress(TEXT)[2:-4], OK + b"Content-Encoding: deflate\r\n")],
        TEXT,
    ),
}


@pytest.mark.parametrize("case", WHOLE)
async def test_a_whole_response_is_delivered_once(case: str, sessions: HttpSessions) -> None:
    pieces, body = WHOLE[case]

    got = await received(sessions, answering(*pieces))

    assert (got.body, got.ended, got.error) == (body, True, None)
    assert [got.calls[0], got.calls[-1]] == ["head", "end"]
    assert got.calls.count("head") == got.calls.count("end") == 1


BROKEN: dict[str, tuple[list[bytes], str, ErrorClass, bytes]] = {
    # what is sent, how it ends, what it is to be, what of the body is still heard
    "closed before the head": ([], "close", ErrorClass.TRUNCATED_STREAM, b""),
    "reset before the head": ([], "reset", ErrorClass.TRUNCATED_STREAM, b""),
    "closed in the head": ([OK + b"Content-Le"], "close", ErrorClass.TRUNCATED_STREAM, b""),
    "reset in the head": ([OK + b"Content-Le"], "reset", ErrorClass.TRUNCATED_STREAM, b""),
    "closed after 100": (
        [b"HTTP/1.1 100 Continue\r\n\r\n"],
        "close",
        ErrorClass.TRUNCATED_STREAM,
        b"",
    ),
    "closed in a chunk size": (
        [CHUNKED + b"5\r\nhello\r\n1"],
        "close",
        ErrorClass.TRUNCATED_STREAM,
        b"hello",
    ),
    "reset in a chunk": ([CHUNKED + b"9\r\nhello"], "reset", ErrorClass.TRUNCATED_STREAM, b"hello"),
    "closed in a chunk": (
        [CHUNKED + b"9\r\nhello"],
        "close",
        ErrorClass.TRUNCATED_STREAM,
        b"hello",
    ),
    "closed before the last chunk": (
        [CHUNKED + b"5\r\nhello\r\n"],
        "close",
        ErrorClass.TRUNCATED_STREAM,
        b"hello",
    ),
    "closed in the trailers": (
        [CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n"],
        "close",
        ErrorClass.TRUNCATED_STREAM,
        b"hello",
    ),
    "shorter than its length": (
        [OK + b"Content-Length: 9\r\n\r\nhello"],
        "close",
        ErrorClass.TRUNCATED_STREAM,
        b"hello",
    ),
    "reset in a body until close": (
        [OK + b"\r\nhello"],
        "reset",
        ErrorClass.TRUNCATED_STREAM,
        b"hello",
    ),
    "gzip cut short": (
        [sized(gzip.compress(TEXT)[:-9], GZIP)],
        "wait",
        ErrorClass.TRUNCATED_STREAM,
        TEXT,
    ),
    "gzip that is none": ([sized(b"hello, all", GZIP)], "wait", ErrorClass.BAD_BODY, b""),
    "gzip of many members": (
        [sized(gzip.compress(b"") * 200, GZIP)],
        "wait",
        ErrorClass.BAD_BODY,
        b"",
    ),
    "an encoding not asked for": (
        [sized(b"hello", OK + b"Content-Encoding: br\r\n")],
        "wait",
        ErrorClass.BAD_BODY,
        b"",
    ),
    "an unknown transfer coding": (
        [OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
        "wait",
        ErrorClass.BAD_BODY,
        b"",
    ),
    "two lengths": (
        [OK + b"Content-Length: 5\r\nContent-Length: 4\r\n\r\nhello"],
        "wait",
        ErrorClass.BAD_BODY,
        b"",
    ),
    "length and chunks": (
        [OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        "wait",
        ErrorClass.BAD_BODY,
        b"",
    ),
    "a negative length": ([OK + b"Content-Length: -1\r\n\r\n"], "wait", ErrorClass.BAD_BODY, b""),
    "a negative chunk": ([CHUNKED + b"-1\r\nhello\r\n"], "wait", ErrorClass.BAD_BODY, b""),
    "a chunk size over 64 bits": (
        [CHUNKED + b"5\r\nhello\r\nfffffffffffffffff\r\n"],
        "wait",
        ErrorClass.BAD_BODY,
        b"hello",
    ),
    "a chunk longer than its size": (
        [CHUNKED + b"5\r\nhello, all\r\n0\r\n\r\n"],
        "wait",
        ErrorClass.BAD_BODY,
        b"hello",
    ),
    "HTTP/0.9": ([b"<html>hello</html>"], "close", ErrorClass.BAD_BODY, b""),
    "another protocol": ([b"SSH-2.0-OpenSSH_9.6\r\n"], "wait", ErrorClass.BAD_BODY, b""),
    "a request": ([b"GET / HTTP/1.1\r\n\r\n"], "wait", ErrorClass.BAD_BODY, b""),
    "an impossible status": ([b"HTTP/1.1 20 OK\r\n\r\n"], "wait", ErrorClass.BAD_BODY, b""),
    "status 0": ([b"HTTP/1.1 000 OK\r\n\r\n"], "wait", ErrorClass.BAD_BODY, b""),
    "an upgrade": (
        [b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw"],
        "wait",
        ErrorClass.BAD_BODY,
        b"",
    ),
    "a control character in a header": (
        [OK + b"X\x00Y: 1\r\nContent-Length: 0\r\n\r\n"],
        "wait",
        ErrorClass.BAD_BODY,
        b"",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_response_fails_with_what_came_before(
    case: str, sessions: HttpSessions
) -> None:
    pieces, then, error_class, body = BROKEN[case]

    got = await received(sessions, answering(*pieces, then=then))

    assert (got.error_class, got.body, got.ended) == (error_class, body, False)
    assert got.calls[-1] == "failed"


FLOODS = {
    "informational responses": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "one informational response": (b"HTTP/1.1 103 Early\r\n", b"Link: </a>\r\n"),
    "headers": (OK, b"X-Header: value\r\n"),
    "one header": (OK + b"X: ", b"aaaaaaaaaaaaaaaa"),
    "reason phrase": (b"HTTP/1.1 200 ", b"very very fine "),
    "empty lines": (b"", b"\r\n"),
    "chunk extension": (CHUNKED + b"5;", b"aaaaaaaaaaaaaaaa"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"X: trailer\r\n"),
    "one trailer": (CHUNKED + b"5\r\nhello\r\n0\r\nX: ", b"aaaaaaaaaaaaaaaa"),
}


@pytest.mark.parametrize("size", [1, 8192], ids=["in small pieces", "in large pieces"])
@pytest.mark.parametrize("case", FLOODS)
async def test_a_flood_without_body_is_cut_off(
    case: str, size: int, sessions: HttpSessions
) -> None:
    start, piece = FLOODS[case]

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        await peer.flood(piece * size)

    got = await received(sessions, serve)

    assert got.error_class is ErrorClass.BAD_BODY
    assert got.calls[-1] == "failed"


@pytest.mark.parametrize(
    ("more", "error_class"), [(0, None), (1, ErrorClass.BAD_BODY)], ids=["allowed", "one more"]
)
async def test_informational_responses_are_limited_in_number(
    more: int, error_class: ErrorClass | None, sessions: HttpSessions
) -> None:
    flood = b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INFORMATIONAL + more)

    got = await received(sessions, answering(flood, HELLO))

    assert got.error_class is error_class


async def test_a_head_near_the_limit_is_taken(sessions: HttpSessions) -> None:
    headers = b"X-Long: %b\r\n" % (b"a" * 60_000)

    got = await received(sessions, answering(sized(b"hello", OK + headers)))

    assert (got.body, len(got.headers["x-long"])) == (b"hello", 60_000)


def trailer(number: int) -> bytes:
    return b"X-%d: trailer\r\n" % number


@pytest.mark.parametrize(
    "answer",
    [
        sized(b"hello", OK + b"X-Long: %b\r\n" % (b"a" * 66_000)),
        CHUNKED + b"5\r\nhello\r\n0\r\n" + b"".join(map(trailer, range(6000))) + b"\r\n",
    ],
    ids=["headers", "trailers"],
)
async def test_what_exceeds_the_limit_is_refused_even_where_it_ends(
    answer: bytes, sessions: HttpSessions
) -> None:
    got = await received(sessions, answering(answer))

    assert got.error_class is ErrorClass.BAD_BODY


async def test_headers_are_found_in_any_case_and_the_last_counts(sessions: HttpSessions) -> None:
    got = await received(sessions, answering(sized(b"", OK + b"X-Id: 1\r\nx-ID: 2\r\n")))

    assert (got.headers["X-iD"], dict(got.headers)["x-id"]) == ("2", "2")
    assert got.headers.get("x-other") is None


async def test_informational_headers_are_not_the_answers(sessions: HttpSessions) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 99\r\n\r\n"

    got = await received(sessions, answering(early + HELLO))

    assert "retry-after" not in got.headers


async def test_the_facts_of_the_exchange_are_filled_in(sessions: HttpSessions) -> None:
    got = await received(sessions, answering(sized(b"busy", b"HTTP/1.1 503 Busy\r\n")))

    facts = got.exchange
    assert facts.connect_s is not None
    assert facts.headers_s is not None
    assert 0 <= facts.connect_s <= facts.headers_s
    assert (facts.http_status, facts.phase, facts.reused_connection) == (
        503,
        Phase.FIRST_TOKEN,
        False,
    )


async def test_redirects_are_delivered_and_not_followed(sessions: HttpSessions) -> None:
    async with raw_server(
        answering(b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n")
    ) as server:
        got = await exchange_with(endpoint(sessions, server.url))

        assert (got.status, got.headers["location"], server.accepted) == (302, "/y", 1)


async def test_one_read_is_one_piece_however_many_chunks_it_holds(sessions: HttpSessions) -> None:
    got = await received(sessions, answering(CHUNKED + b"1\r\na\r\n" * 500 + b"0\r\n\r\n"))

    assert (got.body, len(got.pieces)) == (b"a" * 500, 1)


async def test_a_compressed_stream_arrives_as_it_is_written(sessions: HttpSessions) -> None:
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(b"data: 1\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)

    async with raw_server(answering(GZIP + b"\r\n" + first, then="wait")) as server:
        got = send(endpoint(sessions, server.url))
        await got.until(lambda got: got.body == b"data: 1\n\n")
        assert got.call is not None
        got.call.close()


async def test_a_decompression_bomb_stops_at_a_limit_in_small_steps(sessions: HttpSessions) -> None:
    bomb = gzip.compress(bytes(2 * MAX_DECODED_BYTES), compresslevel=9)

    got = await received(sessions, answering(sized(bomb, GZIP), then="wait"))

    assert got.error_class is ErrorClass.RESPONSE_TOO_LARGE
    assert len(got.body) <= MAX_DECODED_BYTES
    assert max(map(len, got.pieces)) <= STEP_BYTES


async def test_a_small_question_ends_a_bomb_at_its_own_limit(sessions: HttpSessions) -> None:
    bomb = gzip.compress(bytes(2 * MAX_DECODED_BYTES), compresslevel=9)

    async with raw_server(answering(sized(bomb, GZIP), then="wait")) as server:
        with pytest.raises(ProviderError) as caught:
            await endpoint(sessions, server.url).ask("GET", "/models")

    assert caught.value.error_class is ErrorClass.RESPONSE_TOO_LARGE


async def test_an_error_status_outlives_an_encoding_not_asked_for(sessions: HttpSessions) -> None:
    head = b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nContent-Encoding: br\r\n"

    got = await received(sessions, answering(sized(b"\x8b\x02\x80", head)))

    assert (got.status, got.headers["retry-after"], got.body) == (429, "7", b"")
    assert got.ended


async def test_a_body_that_trickles_in_byte_by_byte_is_whole(sessions: HttpSessions) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        for byte in CHUNKED + b"b\r\nhello, all!\r\n0\r\n\r\n":
            await peer.send(bytes([byte]))

    got = await received(sessions, serve)

    assert (got.body, got.ended) == (b"hello, all!", True)


@pytest.mark.parametrize("then", ["close", "wait"])
async def test_decoded_bytes_wait_for_a_paused_receiver(then: str, sessions: HttpSessions) -> None:
    body = bytes(8 * STEP_BYTES)
    serve = answering(GZIP + b"\r\n" + gzip.compress(body), then="close")
    if then == "wait":
        serve = answering(sized(gzip.compress(body), GZIP), then="wait")

    async with raw_server(serve) as server:
        got = send(endpoint(sessions, server.url))
        call = got.call
        assert call is not None
        got.on_data = lambda _data: call.pause_reading()
        for pieces in range(1, 9):
            await got.until(lambda got, pieces=pieces: len(got.pieces) == pieces)  # type: ignore[misc]
            assert not got.ended
            call.resume_reading()
        await got.finished()

    assert (len(got.pieces), got.body == body, got.ended) == (8, True, True)
