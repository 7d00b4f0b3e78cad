"""What a connection had received, but not read, when a write to it failed.

A server that refuses a large request may answer and close while the request is still being sent.
The next write then fails, and the event loop closes the socket without reading the answer, which
the kernel has kept. A second descriptor of the socket outlives that.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

_READ_BYTES = 64 * 1024
_MOST_READS = 16
MOST_AT_ONCE = 64
"""Each has a file descriptor, and each connection has one already."""


class _TLSObject(ssl.SSLObject):
    incoming: ssl.MemoryBIO


class TLSContext(ssl.SSLContext):
    """Its connections can be read on after the event loop has closed them."""

    sslobject_class = _TLSObject

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the signature is the parent's
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        wrapped = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        assert isinstance(wrapped, _TLSObject)
        wrapped.incoming = incoming
        return wrapped


class UnreadBytes:
    """Iterates over what is left to read, decrypted; its owner calls `close`.

    Until then the socket stays open although its transport is closed. TLS within TLS, as through
    a proxy that itself speaks TLS, cannot be read on.
    """

    _open = 0

    @classmethod
    def of(cls, transport: asyncio.Transport) -> "UnreadBytes | None":
        """Return `None` where the process has no file descriptor to spare for it."""
        if cls._open >= MOST_AT_ONCE:
            return None
        try:
            return cls(transport)
        except OSError:
            return None

    def __init__(self, transport: asyncio.Transport) -> None:
        """Raises `OSError`."""
        sock = transport.get_extra_info("socket")
        self._socket = socket.fromfd(sock.fileno(), sock.family, sock.type, sock.proto)
        UnreadBytes._open += 1
        self._socket.settimeout(0)
        self._tls: _TLSObject | None = transport.get_extra_info("ssl_object")

    def __iter__(self) -> Iterator[bytes]:
        with contextlib.suppress(OSError):  # an ssl.SSLError is one
            for _ in range(_MOST_READS):
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    return
                yield from (data,) if self._tls is None else _decrypted(self._tls, data)

    def close(self) -> None:
        self._socket.close()
        UnreadBytes._open -= 1


def _decrypted(tls: _TLSObject, data: bytes) -> Iterator[bytes]:
    """Raises `ssl.SSLError` for what is no TLS."""
    tls.incoming.write(data)
    with contextlib.suppress(ssl.SSLWantReadError):
        while piece := tls.read(_READ_BYTES):
            yield piece
