"""One HTTP/1.1 connection: sends requests and hands responses on, by plain method calls."""

import asyncio
import select
import ssl
import sys
from typing import Protocol, cast

from understudy.errors import BadReply, ErrorClass, ProviderError, Unreachable
from understudy.llm.client import Phase
from understudy.llm.http.call import Call
from understudy.llm.http.encoding import BodyDecoder, DroppedBody, decoder_for
from understudy.llm.http.parser import ResponseParser
from understudy.llm.http.unread import UnreadBytes

_HEADERS, _FIRST_TOKEN = Phase.HEADERS, Phase.FIRST_TOKEN
_UPLOAD_STEP_BYTES = 64 * 1024
_SMALL_BODY_BYTES = 16 * 1024
"""What the kernel takes at once, whatever the connection's speed so far."""
_MAX_DEFERRALS = 8
"""In a row: bytes may wait to be read for as long as reading is paused."""


class ConnectionOwner(Protocol):
    """The pool that a connection belongs to."""

    def opened(self, connection: "Connection") -> None: ...

    def idle(self, connection: "Connection") -> None:
        """Its response ended and it can carry another request."""
        ...

    def gone(self, connection: "Connection") -> None:
        """Its socket is closed."""
        ...

    def distrust(self) -> None:
        """A reused connection had ended at its other end: so may the others."""
        ...


class Connection(asyncio.Protocol):
    """Sends the request of one call at a time and delivers the response to its receiver."""

    def __init__(self, owner: ConnectionOwner, call: Call) -> None:
        self.generation = 0
        """The pool's, when the connection was made."""
        self.idle_since = 0.0
        self._owner = owner
        self._call: Call | None = call
        self._transport: asyncio.Transport | None = None
        self._parser = ResponseParser()
        self._decoder: BodyDecoder | None = None
        self._reused = False
        self._head_delivered = False
        self._unsent: memoryview | None = None
        self._incomplete = False
        """Whether the rest of the request is never sent; the connection cannot be reused then."""
        self._write_paused = False
        self._upload_due = False
        self._deferrals = 0
        self._unread: UnreadBytes | None = None
        """While a write of the request may fail."""

    @property
    def call(self) -> Call | None:
        """The one it carries, `None` while it is idle."""
        return self._call

    def is_usable(self, generation: int, idle_since: float) -> bool:
        """Whether it is open, of this generation of the pool's, and idle since then or later."""
        transport = self._transport
        return (
            self.generation == generation
            and self.idle_since > idle_since
            and transport is not None
            and not transport.is_closing()
        )

    def send(self, call: Call) -> None:
        """Send the request of the next call; the connection is idle and usable."""
        self._reused = True
        self._head_delivered = False
        self._decoder = None
        self._call = call
        self._start(call)

    def abort(self) -> None:
        """Close the socket at once, without a word to the call that it carries."""
        self._call = None
        if self._unread is not None:
            self._release_unread()
        if self._transport is not None:
            self._transport.abort()

    # The connection as the holder of its call.

    def drop(self, call: Call) -> None:
        if self._call is call:
            self.abort()

    def set_paused(self, *, paused: bool) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if paused:
                transport.pause_reading()
            else:
                transport.resume_reading()
        call = self._call
        if not paused and call is not None and self._decoder is not None:
            self._decode(call, self._decoder)
            self._conclude(call)

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of other event loops do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._owner.opened(self)
        call = self._call
        if call is None or call.done:
            self.abort()
        else:
            self._start(call)

    def data_received(self, data: bytes) -> None:
        call = self._call
        if call is None:  # an idle server has nothing to say
            self.abort()
            return
        if call.paused:  # uvloop starts to read after `connection_made`
            self.set_paused(paused=True)
        self._receive(call, data)

    def eof_received(self) -> bool:
        # With a request half sent the transport would wait until it is sent before it closes.
        self._ended(None)
        if self._transport is not None:
            self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        self._unsent = None
        self._owner.gone(self)
        unread, self._unread = self._unread, None
        if unread is not None:
            if transport is not None and isinstance(exc, OSError):
                self._read_rest(unread)
            unread.close()
        self._ended(exc)
        self._parser.release()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        # Not at once: asyncio's transport closes twice where a write fails in here.
        self._schedule_upload()

    # Its own affairs.

    def _start(self, call: Call) -> None:
        transport = self._transport
        assert transport is not None
        if self._reused:
            self._parser.reset()
        call.holder = self
        exchange = call.exchange
        exchange.connect_s = call.clock() - call.started
        exchange.reused_connection = self._reused
        exchange.phase = _HEADERS
        if call.paused:
            transport.pause_reading()
        body = call.body
        if len(body) <= _SMALL_BODY_BYTES:
            transport.write(call.head + body)
            return
        self._unread = UnreadBytes.of(transport)
        if len(body) <= _UPLOAD_STEP_BYTES:
            transport.write(call.head + body)
            self._all_written(transport)
        else:
            transport.write(call.head)
            self._unsent = memoryview(body)
            self._upload()

    def _upload(self) -> None:
        """Hand on the next step of a large body, unless an answer may be there to be read first.

        A server that refuses a request early may close at once, and a write that fails then
        closes the transport before the answer is read. The transport copies, and TLS encrypts,
        all it gets, whether the server takes it or not.
        """
        self._upload_due = False
        transport, rest = self._transport, self._unsent
        if rest is None or self._write_paused or transport is None or transport.is_closing():
            return
        if self._deferrals < _MAX_DEFERRALS and _is_readable(transport):
            self._deferrals += 1
            self._schedule_upload()
            return
        self._deferrals = 0
        step, rest = rest[:_UPLOAD_STEP_BYTES], rest[_UPLOAD_STEP_BYTES:]
        self._unsent = rest if len(rest) else None
        transport.write(step)
        self._schedule_upload()
        if self._unsent is None:
            self._all_written(transport)

    def _all_written(self, transport: asyncio.Transport) -> None:
        """No write fails any more where the system took all; TLS does not show whether it did."""
        if self._unread is None:
            return
        left = transport.get_write_buffer_size() or transport.is_closing()
        if not left and transport.get_extra_info("sslcontext") is None:
            self._release_unread()

    def _schedule_upload(self) -> None:
        if self._unsent is not None and not self._upload_due:
            self._upload_due = True
            asyncio.get_running_loop().call_soon(self._upload)

    def _receive(self, call: Call, data: bytes | None) -> None:
        """Hand on what one read brought, or the end: head, body, end or fault, in this order."""
        parser = self._parser
        parser.feed(data)
        if not self._head_delivered:
            if parser.status is not None:
                self._deliver_head(call, parser.status)
            if self._call is not call:
                return
        parts = parser.parts
        call.has_ended = parser.complete and self._decoder is None
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            if self._decoder is None:
                call.receiver.data(body)
            else:
                self._decoder.feed(body)
                self._decode(call, self._decoder)
        if parser.complete or parser.fault is not None:
            self._conclude(call)

    def _deliver_head(self, call: Call, status: int) -> None:
        self._head_delivered = True
        exchange = call.exchange
        exchange.headers_s = call.clock() - call.started
        exchange.http_status = status
        exchange.phase = _FIRST_TOKEN
        if status >= 300:  # an error that came early: the rest of the request is of no use
            self._stop_upload()
        elif self._unsent is None and self._unread is not None:
            self._release_unread()
        headers = self._parser.headers
        coding = headers.raw.get(b"content-encoding")
        if coding is not None:
            try:
                self._decoder = decoder_for(coding)
            except BadReply as error:
                if status < 300:
                    self._fail(call, error)
                    return
                self._decoder = DroppedBody()
        call.receiver.head(status, headers)

    def _stop_upload(self) -> None:
        if self._unsent is not None:
            self._unsent = None
            self._incomplete = True

    def _decode(self, call: Call, decoder: BodyDecoder) -> None:
        try:
            while self._call is call and not call.paused:
                piece = decoder.read()
                if not piece:
                    return
                call.receiver.data(piece)
        except BadReply as error:
            self._fail(call, error)

    def _conclude(self, call: Call) -> None:
        """End the call where its response did, unless decoded bytes still wait for a resume."""
        if self._call is not call or (self._decoder is not None and self._decoder.pending):
            return
        if not self._parser.complete:
            if self._parser.fault is not None:
                self._fail(call, self._parser.fault)
            return
        if self._decoder is not None and not self._is_decoded(call, self._decoder):
            return
        self._call = None
        if self._unread is not None:
            self._release_unread()
        receiver = call.receiver
        if self._may_be_reused():
            if call.paused:
                self.set_paused(paused=False)
            self._owner.idle(self)
        else:
            self.abort()
        call.finish()  # last: a call that waits for the slot can then have this connection
        receiver.end()

    def _is_decoded(self, call: Call, decoder: BodyDecoder) -> bool:
        try:
            decoder.finish()
        except BadReply as error:
            self._fail(call, error)
            return False
        return True

    def _may_be_reused(self) -> bool:
        transport = self._transport
        return (
            self._parser.keep_alive
            and self._unsent is None
            and not self._incomplete
            and transport is not None
            and not transport.is_closing()
        )

    def _fail(self, call: Call, error: ProviderError) -> None:
        self._call = None
        receiver = call.receiver
        call.finish()
        self.abort()
        receiver.failed(error)

    def _read_rest(self, unread: UnreadBytes) -> None:
        """Deliver the answer of a server that closed while it was still being written to."""
        for data in unread:
            call = self._call
            if call is None:
                return
            self._receive(call, data)

    def _release_unread(self) -> None:
        if self._unread is not None:
            self._unread.close()
            self._unread = None

    def _ended(self, exc: Exception | None) -> None:
        """The connection ended, in order where `exc` is `None`."""
        call = self._call
        if call is None:
            return
        parser = self._parser
        if self._decoder is not None and parser.complete and not _is_bug(exc):
            return  # decoded bytes still wait for a resume
        if exc is None and parser.started:
            self._receive(call, None)
        else:
            self._fail(call, self._lost(exc))

    def _lost(self, exc: Exception | None) -> ProviderError:
        detail = "connection closed" if exc is None else type(exc).__name__
        if _is_bug(exc):
            return Unreachable(ErrorClass.INTERNAL, detail=detail)
        if self._parser.started:
            return BadReply(ErrorClass.TRUNCATED_STREAM, detail=detail)
        if isinstance(exc, ssl.SSLError):
            return Unreachable(ErrorClass.TLS, detail=str(exc))
        if self._reused:
            self._owner.distrust()
            return Unreachable(ErrorClass.STALE_CONNECTION)
        return BadReply(ErrorClass.TRUNCATED_STREAM, detail=detail)


def _is_bug(exc: Exception | None) -> bool:
    """Whether the connection ended because a receiver raised."""
    return exc is not None and not isinstance(exc, OSError)


def _is_readable(transport: asyncio.Transport) -> bool:
    """Whether the socket has something to read; not known on Windows."""
    sock = transport.get_extra_info("socket")
    if sys.platform == "win32" or sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
