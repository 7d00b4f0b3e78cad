"""Parses the HTTP/1.1 responses of one connection, within limits. No I/O."""

from collections.abc import Iterator, Mapping

import httptools

from understudy.errors import BadReply, ErrorClass, ProviderError

MAX_HEAD_BYTES = 64 * 1024
"""Of the head of one response, its informational responses and its trailers together; also the
most that may arrive in a row without one byte of body, as in an endless chunk extension. Within
one read a repeated header counts once."""
MAX_INFORMATIONAL = 32
"""1xx responses before the final one."""
_TLS_ALERT = b"\x15\x03"


class Headers(Mapping[str, str]):
    """The headers of one response; the last of a repeated name counts.

    Names are found in any case and listed in lower case. Values are decoded when asked for.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: dict[bytes, bytes]) -> None:
        self.raw = raw
        """Names in lower case."""

    def __getitem__(self, name: str) -> str:
        return self.raw[name.lower().encode("latin-1")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"


_NO_HEADERS = Headers({})


class ResponseParser:
    """One parser per connection; call `reset` before each response.

    After each `feed` read `status`, `parts`, `complete` and `fault`, in this order: what arrived
    before a fault is valid. `feed` never raises.
    """

    __slots__ = (
        "_head_bytes",
        "_informational",
        "_lower",
        "_named",
        "_names",
        "_names_bytes",
        "_parser",
        "_quiet_bytes",
        "complete",
        "fault",
        "headers",
        "keep_alive",
        "on_body",
        "on_header",
        "parts",
        "started",
        "status",
        "until_close",
    )

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        """Body bytes of the latest `feed`; their reader clears the list."""
        self._named: dict[bytes, bytes] = {}
        """Of a head or of trailers that are being read, as they were sent."""
        # httptools looks its callbacks up by name; these two never enter Python code.
        self.on_body = self.parts.append
        self.on_header = self._named.__setitem__
        self._names: tuple[bytes, ...] = ()
        """Of the head or trailers that were read last, as they were sent."""
        self._lower: list[bytes] = []
        """The same in lower case."""
        self._names_bytes = 0
        self._parser = httptools.HttpResponseParser(self)
        # What browsers and aiohttp accept of servers: bare LF, folded lines, "5 \r\n".
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self.reset()

    def reset(self) -> None:
        self.status: int | None = None
        """Of the final response, once its head is complete."""
        self.headers = _NO_HEADERS
        self.started = False
        """Whether any byte of this response arrived."""
        self.complete = False
        self.keep_alive = False
        """Once complete: whether another request may be sent over this connection."""
        self.until_close = False
        """Whether the body ends with the connection."""
        self.fault: ProviderError | None = None
        self._named.clear()
        self._head_bytes = 0
        self._quiet_bytes = 0
        self._informational = 0

    def feed(self, data: bytes | None) -> None:
        """Read on; `None`: the connection ended in order."""
        if data is None:
            self._feed_eof()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fault = _bad("the server switched protocols")
        except httptools.HttpParserError as error:
            if self.complete:  # what follows a whole response is not ours
                self.keep_alive = False
            elif self.fault is None:
                self.fault = _bad(self._reason(error, data))
        self.started = True
        if self.parts:
            self._quiet_bytes = 0
            return
        self._quiet_bytes += len(data)
        if self._quiet_bytes > MAX_HEAD_BYTES and not self.complete and self.fault is None:
            self.fault = _bad("over 64 KiB without any body")

    def _feed_eof(self) -> None:
        """The end of the body, or a fault."""
        if self.complete or self.fault is not None:
            return
        if self.until_close:
            self.complete = True
        else:
            self.fault = BadReply(ErrorClass.TRUNCATED_STREAM, detail="connection closed")

    def release(self) -> None:
        """Break the reference cycle with httptools; the parser cannot be used afterwards."""
        del self._parser

    # Called by httptools.

    def on_message_begin(self) -> None:
        if self.complete:
            raise _bad("bytes after the end of the response")

    def on_headers_complete(self) -> None:
        headers = self._take_named()
        status = self._parser.get_status_code()
        if status < 200:
            self._count_informational(status)
            return
        coding = headers.get(b"transfer-encoding")
        if coding is not None:
            coding = coding.lower()
            if coding not in (b"chunked", b"identity"):
                self._refuse("unknown transfer coding")
        self.until_close = coding != b"chunked" and b"content-length" not in headers
        self.headers = Headers(headers)
        self.status = status

    def on_message_complete(self) -> None:
        if self.status is None:  # an informational response
            return
        if self._named:
            self._take_named()
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive()

    def _take_named(self) -> dict[bytes, bytes]:
        """Return the headers that were read last, their names in lower case."""
        named, values = tuple(self._named), self._named.values()
        if named != self._names:  # a server sends the same names with nearly each response
            self._names, self._lower = named, [name.lower() for name in named]
            self._names_bytes = len(b"".join(named)) + 4 * len(named)
        self._head_bytes += self._names_bytes + len(b"".join(values))
        headers = dict(zip(self._lower, values, strict=True))
        self._named.clear()
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse("headers of over 64 KiB")
        return headers

    def _count_informational(self, status: int) -> None:
        self._informational += 1
        if status == 101:
            self._refuse("the server switched protocols")
        if status < 100:
            self._refuse("invalid status")
        if self._informational > MAX_INFORMATIONAL:
            self._refuse("too many informational responses")

    def _refuse(self, reason: str) -> None:
        self.fault = _bad(reason)
        raise self.fault

    def _reason(self, error: Exception, data: bytes) -> str:
        if not self.started and data.startswith(_TLS_ALERT):
            return "the server expects TLS; use https://"
        return f"invalid HTTP: {error}"


def _bad(detail: str) -> BadReply:
    return BadReply(ErrorClass.BAD_BODY, detail=detail)
