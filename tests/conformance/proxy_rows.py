"""Proxies from the environment: those that work, those that fail, and what NO_PROXY excludes."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from certificates import proxies, served_by, trusting
from conformance.raw_primary import (
    BREATH,
    PART,
    STREAM,
    WHOLE,
    MakeTLS,
    Move,
    RawPrimary,
    authority,
    chunk,
    flood,
    good_tls,
    plays,
    reset,
    sized,
    unknown_tls,
    until_gone,
)
from conformance.row import OpenPrimary, Primary, Row
from raw_http import Peer, ProxyDouble, RawServer, Serve, raw_server

_NAME = "models.example.test"
_ADDRESS = "9.9.9.9"
"""Public, so not on the local network; the subjects look for every server on loopback."""
_SIX = "2620:fe::9"
MakeProxy = Callable[[int], Serve]
"""From the port of the server behind it."""


def _works(port: int) -> Serve:
    return ProxyDouble(port).serve


def _wants_password(port: int) -> Serve:
    return ProxyDouble(port, needs="Basic dXNlcjpzZWNyZXQ=").serve


def _does(*moves: Move) -> MakeProxy:
    """A proxy that reads the head of a request and makes these moves in place of its work."""

    def make(_port: int) -> Serve:
        async def serve(peer: Peer) -> None:
            await peer.head()
            await plays(*moves)(peer)

        return serve

    return make


def _origin_tls() -> ssl.SSLContext:
    return served_by(authority(), _NAME)


def _other_tls() -> ssl.SSLContext:
    return served_by(authority(), "other.example.test")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is, and how the environment says it is reached."""

    scheme: str = "https"
    host: str = _NAME
    user: str = ""
    """Of the proxy."""
    no_proxy: str = ""
    """`{port}` is the server's."""
    tls: MakeTLS = _origin_tls
    proxy_tls: MakeTLS | None = None

    def url(self, port: int) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{port}/v1"

    def environment(self, server: RawServer, proxy: RawServer) -> dict[str, str]:
        address = f"{proxy.scheme}://{self.user}127.0.0.1:{proxy.port}"
        return {
            f"{self.scheme}_proxy": address,
            "no_proxy": self.no_proxy.format(port=server.port),
        }


_TUNNEL, _PLAIN = Place(), Place("http")


def behind(proxy: MakeProxy | None, place: Place, *moves: Move, early: bool = False) -> OpenPrimary:
    """A server that answers, or makes these moves; `None` is a proxy that is down."""

    @asynccontextmanager
    async def open_() -> AsyncIterator[Primary]:
        primary = RawPrimary()
        serve = primary.answering(moves or (WHOLE,), early=early)
        async with AsyncExitStack() as stack:
            tls = place.tls() if place.scheme == "https" else None
            server = await stack.enter_async_context(raw_server(serve, tls))
            work = plays() if proxy is None else proxy(server.port)
            async with raw_server(work, place.proxy_tls and place.proxy_tls()) as reached:
                primary.base_url = place.url(server.port)
                stack.enter_context(trusting(authority()))
                stack.enter_context(proxies(**place.environment(server, reached)))
                if proxy is not None:
                    yield primary
            if proxy is None:
                yield primary

    return open_


def _refusal(status: bytes) -> bytes:
    return sized(b"<html>proxy</html>", status, b"Proxy-Authenticate: Basic", b"Connection: close")


_407 = _refusal(b"407 Proxy Authentication Required")
_502 = _refusal(b"502 Bad Gateway")
_503 = _refusal(b"503 Service Unavailable")
_413 = sized(b'{"error": "no"}', b"413 Content Too Large", b"Connection: close")
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_103 = b"HTTP/1.1 103 Early Hints\r\n\r\n"
_PART = STREAM + chunk(PART)

_WORKING = tuple(
    Row(fault, "", whole=True, opens=behind(proxy, place))
    for fault, proxy, place in (
        ("proxy", _works, _PLAIN),
        ("tunnel", _works, _TUNNEL),
        ("proxy with a password", _wants_password, Place("http", user="user:secret@")),
        ("tunnel with a password", _wants_password, Place(user="user:secret@")),
        ("tunnel by a TLS proxy", _works, Place(proxy_tls=good_tls)),
        ("local server, proxy that refuses", _does(_407), Place("http", "127.0.0.1")),
    )
)

_PLAIN_FAULTS: tuple[tuple[str, str, MakeProxy | None], ...] = (
    ("proxy: 407", "connect_refused", _wants_password),
    ("proxy: 502", "server_error", _does(_502)),
    ("proxy: 503", "overloaded", _does(_503)),
    ("proxy: closes", "truncated_stream", _does()),
    ("proxy: resets", "truncated_stream", _does(reset)),
    ("proxy: no HTTP", "bad_body", _does(b"SSH-2.0-OpenSSH_9.6\r\n", until_gone)),
    ("proxy: is down", "connect_refused", None),
)
_TUNNEL_FAULTS: tuple[tuple[str, str, MakeProxy | None], ...] = (
    ("tunnel: 407", "connect_refused", _wants_password),
    ("tunnel: 502", "connect_refused", _does(_502)),
    ("tunnel: 503", "connect_refused", _does(_503)),
    ("tunnel: closes", "connect_refused", _does()),
    ("tunnel: resets", "connect_refused", _does(reset)),
    ("tunnel: no HTTP", "connect_refused", _does(b"SSH-2.0-OpenSSH_9.6\r\n", until_gone)),
    ("tunnel: 103 for ever", "connect_refused", _does(flood(_103))),
    ("tunnel: bytes before ours", "connect_refused", _does(_CONNECTED + b"early", until_gone)),
    ("tunnel: closes after CONNECT", "connect_refused", _does(_CONNECTED, BREATH)),
    ("tunnel: resets after CONNECT", "connect_refused", _does(_CONNECTED, BREATH, reset)),
    ("tunnel: no TLS behind it", "tls", _does(_CONNECTED, BREATH, b"SSH-2.0\r\n", until_gone)),
    ("tunnel: is down", "connect_refused", None),
)
_FAILING = (
    *(
        Row(fault, error_class, reached=False, opens=behind(proxy, place))
        for place, faults in ((_PLAIN, _PLAIN_FAULTS), (_TUNNEL, _TUNNEL_FAULTS))
        for fault, error_class, proxy in faults
    ),
    Row(
        "proxy: hangs",
        "first_token_timeout",
        waits=True,
        reached=False,
        opens=behind(_does(until_gone), _PLAIN),
    ),
    *(
        Row(
            fault,
            "connect_timeout",
            connects=True,
            reached=False,
            opens=behind(_does(*moves), _TUNNEL),
        )
        for fault, moves in (
            ("tunnel: hangs", (until_gone,)),
            ("tunnel: hangs after CONNECT", (_CONNECTED, until_gone)),
        )
    ),
    Row(
        "tunnel: proxy of an unknown CA",
        "connect_refused",
        reached=False,
        opens=behind(_works, Place(proxy_tls=unknown_tls)),
    ),
    Row(
        "tunnel: server of another name",
        "tls",
        reached=False,
        opens=behind(_works, Place(tls=_other_tls)),
    ),
    *(
        Row(
            fault,
            "truncated_stream",
            part_seen=True,
            opens=behind(_works, place, _PART, BREATH, reset),
        )
        for fault, place in (("proxy: server resets", _PLAIN), ("tunnel: server resets", _TUNNEL))
    ),
    *(
        Row(fault, "payload_too_large", large=True, opens=behind(_works, place, _413, early=True))
        for fault, place in (("proxy: early 413", _PLAIN), ("tunnel: early 413", _TUNNEL))
    ),
)

_EXCLUDED = tuple(
    Row(
        f"NO_PROXY={no_proxy}",
        "",
        whole=True,
        opens=behind(_does(_407), Place(scheme, host, no_proxy=no_proxy)),
    )
    for scheme, host, no_proxy in (
        ("http", _NAME, _NAME),
        ("http", _NAME, "example.test"),
        ("https", _NAME, ".example.test"),
        ("https", _NAME, _NAME + ":{port}"),
        ("https", _NAME, "*"),
        ("http", _ADDRESS, _ADDRESS),
        ("http", _ADDRESS, "9.9.9.0/24"),
        ("http", _SIX, "2620:fe::/32"),
    )
)
_NOT_EXCLUDED = tuple(
    Row(
        f"NO_PROXY={no_proxy}, not it",
        "connect_refused",
        reached=False,
        opens=behind(_does(_407), Place(scheme, host, no_proxy=no_proxy)),
    )
    for scheme, host, no_proxy in (
        ("https", _NAME, "other.test"),
        ("https", _NAME, _NAME + ":1"),
        ("http", _ADDRESS, "9.9.8.0/24"),
    )
)

PROXY_ROWS = (*_WORKING, *_FAILING, *_EXCLUDED, *_NOT_EXCLUDED)
