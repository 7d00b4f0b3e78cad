"""Primaries that fail below a model server's own errors: in HTTP, in TLS, in TCP."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

import trustme

from certificates import served_by, trusting
from conformance.row import OpenPrimary, Primary
from raw_http import Peer, Serve, raw_server

Move = bytes | float | Serve
"""Bytes to send, seconds to wait, or anything else that is done with the connection."""
MakeTLS = Callable[[], ssl.SSLContext]
BREATH = 0.05
"""Long enough for what came before to be read, and shown, apart from what comes after."""
_WORDS = ("The ", "primary ", "says ", "five ", "words.")
TEXT = "".join(_WORDS)
"""What a raw primary says when it says all."""


def event(delta: object, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    frame = {
        "id": "raw-1",
        "object": "chat.completion.chunk",
        "created": 1_750_000_000,
        "model": "rehearsal/eliza",
        "choices": [choice],
    }
    return b"data: " + json.dumps(frame).encode() + b"\n\n"


PART = b"".join(event({"content": word}) for word in _WORDS)
STORY = PART + event({}, "stop") + b"data: [DONE]\n\n"
ANSWER = json.dumps(
    {
        "id": "raw-1",
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": "rehearsal/eliza",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT},
                "finish_reason": "stop",
            }
        ],
    }
).encode()

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
STREAM = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = _OK + b"Connection: close\r\n\r\n"
LAST_CHUNK = b"0\r\n"
"""What trailers may follow, and an empty line must."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(data: bytes, status: bytes = b"200 OK", *headers: bytes) -> bytes:
    """A response with its length, as JSON."""
    lines = (b"Content-Type: application/json", b"Content-Length: %d" % len(data), *headers)
    return b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, b"\r\n".join(lines), data)


WHOLE = STREAM + chunk(STORY) + LAST_CHUNK + b"\r\n"


async def until_gone(peer: Peer) -> None:
    await peer.gone()


async def reset(peer: Peer) -> None:
    peer.reset()


async def vanish(peer: Peer) -> None:
    """Close the socket without the end of TLS."""
    peer.writer.transport.abort()


async def garble(peer: Peer) -> None:
    """Send what is no TLS record over the socket of a TLS connection."""
    os.write(peer.writer.get_extra_info("socket").fileno(), b"\xff" * 64)
    await peer.gone()


def flood(piece: bytes, pause_s: float = 0.0) -> Serve:
    """Send the same again and again until the other side closes."""

    async def serve(peer: Peer) -> None:
        while True:
            await peer.send(piece)
            await asyncio.sleep(pause_s)

    return serve


def plays(*moves: Move) -> Serve:
    """Make one move after the other with a connection, then close it."""

    async def serve(peer: Peer) -> None:
        for move in moves:
            if isinstance(move, bytes):
                await peer.send(move)
            elif isinstance(move, float):
                await asyncio.sleep(move)
            else:
                await move(peer)

    return serve


@dataclass
class RawPrimary:
    base_url: str = ""
    calls: int = 0

    def answering(self, moves: Sequence[Move], *, early: bool = False) -> Serve:
        """Read a request, or only its head where the answer is `early`, then make the moves."""

        async def serve(peer: Peer) -> None:
            await (peer.head() if early else peer.request())
            self.calls += 1
            await plays(*moves)(peer)

        return serve


def answers(*moves: Move, tls: MakeTLS | None = None, early: bool = False) -> OpenPrimary:
    """A server on loopback that reads requests."""

    @asynccontextmanager
    async def open_() -> AsyncIterator[Primary]:
        primary = RawPrimary()
        serve = primary.answering(moves, early=early)
        async with raw_server(serve, tls and tls()) as server:
            primary.base_url = f"{server.url}/v1"
            with trusting(authority()):
                yield primary

    return open_


def accepts(*moves: Move) -> OpenPrimary:
    """A server at a TLS address that makes its moves without TLS, and reads no request."""

    @asynccontextmanager
    async def open_() -> AsyncIterator[Primary]:
        async with raw_server(plays(*moves)) as server:
            yield RawPrimary(f"https://127.0.0.1:{server.port}/v1")

    return open_


def shakes_hands(tls: MakeTLS) -> OpenPrimary:
    """A server of OpenSSL's own: it says why it fails a handshake, which asyncio's does not."""

    def serve(listening: socket.socket) -> None:
        listening.settimeout(20)
        accepted, _ = listening.accept()
        wrapped = tls().wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        with wrapped as peer:
            with contextlib.suppress(ssl.SSLError):
                peer.do_handshake()
            while os.read(peer.fileno(), 65536):  # else the reset could overtake the alert
                pass

    @asynccontextmanager
    async def open_() -> AsyncIterator[Primary]:
        with socket.create_server(("127.0.0.1", 0)) as listening, trusting(authority()):
            serving = asyncio.create_task(asyncio.to_thread(serve, listening))
            yield RawPrimary(f"https://127.0.0.1:{listening.getsockname()[1]}/v1")
            await serving

    return open_


@cache
def authority() -> trustme.CA:
    """The one that clients trust while a raw primary is open."""
    return trustme.CA()


def good_tls() -> ssl.SSLContext:
    return served_by(authority(), "127.0.0.1")


def unknown_tls() -> ssl.SSLContext:
    return served_by(trustme.CA(), "127.0.0.1")
