"""TLS with a test authority, and HTTP proxies from the environment."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator

import pytest
import trustme

from certificates import proxies, served_by, trusting
from raw_http import (
    HELLO,
    OK,
    Peer,
    ProxyDouble,
    RawServer,
    Recorder,
    answering,
    connections_of,
    exchange_with,
    raw_server,
    repeating,
    send,
)
from understudy.errors import ConfigError, ErrorClass
from understudy.llm.http.connector import Network, read_origin
from understudy.llm.http.endpoint import Endpoint, HttpSessions, Pool

NAME = "models.example.test"
"""Resolved by the proxy alone."""
LARGE = 32 * 1024 * 1024


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA) -> Iterator[None]:
    with trusting(authority):
        yield


@pytest.fixture(autouse=True)
def no_proxies() -> Iterator[None]:
    with proxies():
        yield


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


def endpoint(sessions: HttpSessions, url: str, *, connect_s: float = 5.0) -> Endpoint:
    return Endpoint(sessions, url, headers={}, pool=Pool(connect_s, 15.0))


async def refused(sessions: HttpSessions, url: str) -> tuple[ErrorClass | None, str]:
    got = await exchange_with(endpoint(sessions, url))
    return got.error_class, got.error.detail if got.error else ""


async def unanswered(there: Endpoint, server: RawServer) -> Recorder:
    """Ask until the server was reached: on a busy machine a short limit may end before that."""
    got = await exchange_with(there)
    while not server.accepted:
        got = await exchange_with(there)
    return got


# TLS.


@pytest.mark.usefixtures("trusted")
async def test_a_trusted_server_is_spoken_to_over_tls(
    authority: trustme.CA, sessions: HttpSessions
) -> None:
    async with raw_server(repeating(HELLO, HELLO), served_by(authority, "127.0.0.1")) as server:
        there = endpoint(sessions, server.url)
        first, second = await exchange_with(there), await exchange_with(there)

        assert (first.body, second.body, server.accepted) == (b"hello", b"hello", 1)


@pytest.mark.usefixtures("trusted")
async def test_the_server_is_named_in_the_handshake(
    authority: trustme.CA, sessions: HttpSessions
) -> None:
    names: list[str | None] = []
    context = served_by(authority, "localhost")
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async with raw_server(answering(HELLO), context) as server:
        got = await exchange_with(endpoint(sessions, f"https://localhost:{server.port}"))

    assert (got.body, names) == (b"hello", ["localhost"])


async def test_an_unknown_authority_is_refused(
    authority: trustme.CA, sessions: HttpSessions
) -> None:
    async with raw_server(answering(HELLO), served_by(authority, "127.0.0.1")) as server:
        error_class, detail = await refused(sessions, server.url)

    assert (error_class, "certificate refused" in detail) == (ErrorClass.TLS, True)


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_for_another_name_is_refused(
    authority: trustme.CA, sessions: HttpSessions
) -> None:
    async with raw_server(answering(HELLO), served_by(authority, "other.example")) as server:
        error_class, detail = await refused(sessions, server.url)

    assert (error_class, "certificate refused" in detail) == (ErrorClass.TLS, True)


async def test_https_to_a_plain_port_says_so(sessions: HttpSessions) -> None:
    async def serve(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(serve) as server:
        error_class, detail = await refused(sessions, f"https://127.0.0.1:{server.port}")

    assert (error_class, "http://" in detail) == (ErrorClass.TLS, True)


async def test_http_to_a_tls_port_says_so(authority: trustme.CA, sessions: HttpSessions) -> None:
    async def serve(peer: Peer) -> None:
        # What OpenSSL's servers answer to plain text: an alert, then the end.
        await peer.request()
        await peer.send(b"\x15\x03\x01\x00\x02\x02\x46")

    async with raw_server(serve) as server:
        error_class, detail = await refused(sessions, server.url)

    assert (error_class, "https://" in detail) == (ErrorClass.BAD_BODY, True)


async def test_a_handshake_that_never_ends_is_a_connect_timeout(sessions: HttpSessions) -> None:
    gone = asyncio.Event()

    async def silent(peer: Peer) -> None:
        await peer.gone()
        gone.set()

    async with raw_server(silent) as server:
        there = endpoint(sessions, f"https://127.0.0.1:{server.port}", connect_s=0.2)
        got = await unanswered(there, server)
        await gone.wait()

    assert got.error_class is ErrorClass.CONNECT_TIMEOUT


async def test_a_server_that_hangs_up_in_the_handshake_is_refused(sessions: HttpSessions) -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.reader.read(1)
        peer.reset()

    async with raw_server(hang_up) as server:
        error_class, _ = await refused(sessions, f"https://127.0.0.1:{server.port}")

    assert error_class is ErrorClass.CONNECT_REFUSED


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("pieces", "then", "error_class", "body"),
    [
        ([], "close", ErrorClass.TRUNCATED_STREAM, b""),
        ([OK + b"Content-Length: 9\r\n\r\nhello"], "close", ErrorClass.TRUNCATED_STREAM, b"hello"),
        ([OK + b"Content-Length: 9\r\n\r\nhello"], "reset", ErrorClass.TRUNCATED_STREAM, b"hello"),
        ([OK + b"\r\nhello"], "close", None, b"hello"),
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], "wait", ErrorClass.BAD_BODY, b""),
    ],
    ids=["nothing", "short", "reset", "until close", "another protocol"],
)
async def test_faults_are_the_same_over_tls(
    authority: trustme.CA,
    sessions: HttpSessions,
    pieces: list[bytes],
    then: str,
    error_class: ErrorClass | None,
    body: bytes,
) -> None:
    context = served_by(authority, "127.0.0.1")
    async with raw_server(answering(*pieces, then=then), context) as server:
        got = await exchange_with(endpoint(sessions, server.url))

    assert (got.error_class, got.body) == (error_class, body)


@pytest.mark.usefixtures("trusted")
async def test_a_stale_tls_connection_is_known(
    authority: trustme.CA, sessions: HttpSessions
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.request()

    async with raw_server(serve, served_by(authority, "127.0.0.1")) as server:
        there = endpoint(sessions, server.url)
        await exchange_with(there)
        second = await exchange_with(there)

    assert second.error_class is ErrorClass.STALE_CONNECTION


@pytest.mark.usefixtures("trusted")
async def test_closing_a_call_reaches_the_socket_under_tls(
    authority: trustme.CA, sessions: HttpSessions
) -> None:
    gone = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\nhello")
        await peer.gone()
        gone.set()

    async with raw_server(serve, served_by(authority, "127.0.0.1")) as server:
        got = send(endpoint(sessions, server.url))
        await got.until(lambda got: got.body == b"hello")
        assert got.call is not None
        got.call.close()
        await gone.wait()

    assert got.calls == ["head", "data"]


@pytest.mark.usefixtures("trusted")
async def test_large_bodies_pass_through_tls_both_ways_in_bounded_memory(
    authority: trustme.CA, sessions: HttpSessions
) -> None:
    read_on = asyncio.Event()

    async def serve(peer: Peer) -> None:
        head = await peer.head()
        if b"content-length: 2\r\n" in head.lower():
            await peer.reader.readexactly(2)
            await peer.send(HELLO)
            return
        await read_on.wait()
        body = await peer.reader.readexactly(LARGE)
        await peer.send(OK + b"Content-Length: %d\r\n\r\n" % LARGE, body)

    body = bytes(range(256)) * (LARGE // 256)
    async with raw_server(serve, served_by(authority, "127.0.0.1")) as server:
        there = endpoint(sessions, server.url)
        got = send(there, body)
        while not any(connection._write_paused for connection in connections_of(sessions)):
            await exchange_with(there)
        buffered = [
            c._transport.get_write_buffer_size()
            for c in connections_of(sessions)
            if c._transport is not None
        ]
        assert 0 < max(buffered) < LARGE / 16
        read_on.set()
        await got.finished()

    assert got.body == body


# Proxies.


def proxied(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: RawServer, user: str = ""
) -> None:
    monkeypatch.setenv(variable, f"http://{user}127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_plain_server_is_reached_through_its_proxy(
    variable: str, monkeypatch: pytest.MonkeyPatch, sessions: HttpSessions
) -> None:
    async with raw_server(repeating(HELLO)) as server:
        double = ProxyDouble(server.port)
        async with raw_server(double.serve) as proxy:
            proxied(monkeypatch, variable, proxy)
            got = await exchange_with(endpoint(sessions, f"http://{NAME}:8080/v1"))

    assert (got.body, double.asked) == (
        b"hello",
        [f"POST http://{NAME}:8080/v1/x HTTP/1.1".encode()],
    )


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_tls_server_is_reached_through_a_tunnel(
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
    authority: trustme.CA,
    sessions: HttpSessions,
) -> None:
    async with raw_server(repeating(HELLO, HELLO), served_by(authority, NAME)) as server:
        double = ProxyDouble(server.port)
        async with raw_server(double.serve) as proxy:
            proxied(monkeypatch, variable, proxy)
            there = endpoint(sessions, f"https://{NAME}/v1")
            first, second = await exchange_with(there), await exchange_with(there)

    assert (first.body, second.body) == (b"hello", b"hello")
    assert second.exchange.reused_connection
    assert double.asked == [f"CONNECT {NAME}:443 HTTP/1.1".encode()]


@pytest.mark.usefixtures("trusted")
async def test_a_proxy_may_itself_speak_tls(
    monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, sessions: HttpSessions
) -> None:
    async with raw_server(repeating(HELLO), served_by(authority, NAME)) as server:
        double = ProxyDouble(server.port)
        async with raw_server(double.serve, served_by(authority, "127.0.0.1")) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            got = await exchange_with(endpoint(sessions, f"https://{NAME}"))

    assert (got.body, len(double.asked)) == (b"hello", 1)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_user_and_password_of_a_proxy_are_shown_to_it_alone(
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    authority: trustme.CA,
    sessions: HttpSessions,
) -> None:
    heads: list[bytes] = []

    async def serve(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.send(HELLO)

    tls = served_by(authority, NAME) if scheme == "https" else None
    async with raw_server(serve, tls) as server:
        double = ProxyDouble(server.port, needs="Basic YTpiIGM=")
        async with raw_server(double.serve) as proxy:
            proxied(monkeypatch, f"{scheme}_proxy", proxy, "a:b%20c@")
            got = await exchange_with(endpoint(sessions, f"{scheme}://{NAME}"))

    assert got.body == b"hello"
    assert (b"Proxy-Authorization" in heads[0]) == (scheme == "http")  # the double hands it on


async def test_a_tunnel_that_closes_before_tls_begins_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = asyncio.Event()

    class LateTLS(Network):
        async def tls(self) -> ssl.SSLContext:
            await closed.wait()
            return await super().tls()

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.writer.close()
        await peer.writer.wait_closed()
        closed.set()

    sessions = HttpSessions(LateTLS())
    async with raw_server(serve) as proxy:
        proxied(monkeypatch, "HTTPS_PROXY", proxy)
        got = await exchange_with(endpoint(sessions, f"https://{NAME}", connect_s=60.0))
    await sessions.aclose()

    assert got.error_class is ErrorClass.CONNECT_REFUSED


async def test_a_proxy_that_refuses_the_tunnel_is_refused(
    monkeypatch: pytest.MonkeyPatch, sessions: HttpSessions
) -> None:
    double = ProxyDouble(9, needs="Basic x")
    async with raw_server(double.serve) as proxy:
        proxied(monkeypatch, "HTTPS_PROXY", proxy)
        error_class, detail = await refused(sessions, f"https://{NAME}")

    assert (error_class, "407" in detail) == (ErrorClass.CONNECT_REFUSED, True)


async def test_a_plain_proxy_that_wants_a_password_answers_407(
    monkeypatch: pytest.MonkeyPatch, sessions: HttpSessions
) -> None:
    double = ProxyDouble(9, needs="Basic x")
    async with raw_server(double.serve) as proxy:
        proxied(monkeypatch, "HTTP_PROXY", proxy)
        got = await exchange_with(endpoint(sessions, f"http://{NAME}"))

    assert (got.status, got.ended) == (407, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nearly bytes",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["no HTTP", "nothing", "half a head", "early bytes", "endless head", "redirect"],
)
async def test_whatever_else_a_proxy_does_is_refused_and_closed(
    answer: bytes, monkeypatch: pytest.MonkeyPatch, sessions: HttpSessions
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)
        if len(answer) > 20:
            await peer.gone()

    async with raw_server(serve) as proxy:
        proxied(monkeypatch, "HTTPS_PROXY", proxy)
        error_class, detail = await refused(sessions, f"https://{NAME}")

    assert (error_class, "proxy" in detail) == (ErrorClass.CONNECT_REFUSED, True)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_down_is_refused(
    scheme: str, monkeypatch: pytest.MonkeyPatch, sessions: HttpSessions
) -> None:
    async with raw_server(repeating()) as proxy:
        proxied(monkeypatch, "ALL_PROXY", proxy)
    error_class, detail = await refused(sessions, f"{scheme}://{NAME}")

    assert (error_class, "proxy" in detail) == (ErrorClass.CONNECT_REFUSED, True)


async def test_a_proxy_that_never_answers_is_a_connect_timeout_and_closed(
    monkeypatch: pytest.MonkeyPatch, sessions: HttpSessions
) -> None:
    gone = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.gone()
        gone.set()

    async with raw_server(serve) as proxy:
        proxied(monkeypatch, "HTTPS_PROXY", proxy)
        got = await unanswered(endpoint(sessions, f"https://{NAME}", connect_s=0.2), proxy)
        await gone.wait()

    assert got.error_class is ErrorClass.CONNECT_TIMEOUT


@pytest.mark.parametrize("listed", [NAME, ".example.test", "*", f"{NAME}:443", f"a.b, {NAME}"])
async def test_a_server_in_no_proxy_is_reached_directly(
    listed: str, monkeypatch: pytest.MonkeyPatch, sessions: HttpSessions
) -> None:
    async with raw_server(repeating()) as proxy:
        proxied(monkeypatch, "HTTPS_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", listed)
        error_class, _ = await refused(sessions, f"https://{NAME}")

        assert (error_class, proxy.accepted) == (ErrorClass.DNS, 0)


async def test_a_local_server_is_never_reached_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, sessions: HttpSessions
) -> None:
    async with raw_server(repeating(HELLO)) as server, raw_server(repeating()) as proxy:
        proxied(monkeypatch, "ALL_PROXY", proxy)
        got: Recorder = await exchange_with(endpoint(sessions, server.url))

        assert (got.body, proxy.accepted) == (b"hello", 0)


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1080", "http://", "http://a:99999"])
def test_a_proxy_that_cannot_be_used_is_a_mistake_in_the_configuration(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", address)

    with pytest.raises(ConfigError):
        endpoint(HttpSessions(), f"https://{NAME}")


# Addresses and headers.


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://models.example/v1", "models.example"),
        ("https://models.example:443", "models.example"),
        ("https://models.example:8443", "models.example:8443"),
        ("http://[::1]:8080/v1", "[::1]:8080"),
        ("http://bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_an_address_names_its_server(url: str, authority: str) -> None:
    assert read_origin(url).authority == authority


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://", "models.example/v1", "http://a:0x1", "http://a:99999"]
)
def test_an_address_that_names_none_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError):
        endpoint(HttpSessions(), url)


def test_a_password_in_a_wrong_address_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        read_origin("htps://user:secret@models.example")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Key": "sk-secret\r\nEvil: 1"},
        {"X-Key": "sk-secret\x00"},
        {"X Key": "1"},
        {"X:": "1"},
        {"": "1"},
        {"Content-Length": "1"},
        {"transfer-encoding": "chunked"},
    ],
)
def test_a_header_that_cannot_be_sent_is_a_mistake_in_the_configuration(
    headers: dict[str, str],
) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(HttpSessions(), "http://a", headers=headers, pool=Pool(1.0, 4.0))

    assert "secret" not in str(caught.value)


async def test_user_and_password_of_an_address_are_sent(sessions: HttpSessions) -> None:
    heads: list[bytes] = []

    async def serve(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.send(HELLO)

    async with raw_server(serve) as server:
        await exchange_with(endpoint(sessions, f"http://a:b%20c@127.0.0.1:{server.port}"))

    assert b"\r\nAuthorization: Basic YTpiIGM=\r\n" in heads[0]
