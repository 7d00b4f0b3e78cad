"""One HTTP response on its way to the events of a reply: streamed, in one piece, or an error."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from understudy.errors import BadReply, ErrorClass, ProviderError, Rejected
from understudy.llm.client import EventReceiver, Phase
from understudy.llm.dialect import Dialect
from understudy.llm.http.call import Call
from understudy.llm.http.parser import Headers
from understudy.llm.messages import Finished, Output
from understudy.llm.sse import SseReader
from understudy.llm.stream_parser import StreamParser

_STREAMING, _DONE = Phase.STREAMING, Phase.DONE
_EVENT_STREAM = b"text/event-stream"
_MAX_ERROR_BYTES = 256 * 1024
_MAX_WHOLE_BYTES = 16 * 1024 * 1024
_NO_SUCH_PAGE = frozenset((404, 405, 501))


class ReplyDialect(Protocol):
    """What the client of an engine knows about its server's responses."""

    @property
    def dialect(self) -> Dialect: ...

    def read_whole_reply(self, body: bytes, parser: StreamParser) -> list[Output]:
        """Read a 200 that is not a stream. Raises what it reports instead of a reply."""
        ...

    def error_of(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Return what a response with an error status reports."""
        ...


class ReplyResponse:
    """Receives one response and passes the reply's events on; also its handle (`Generation`)."""

    __slots__ = (
        "_client",
        "_grace",
        "_grace_ends",
        "_headers",
        "_over",
        "_parser",
        "_receiver",
        "_sse",
        "_status",
        "_whole",
        "call",
    )

    call: Call
    """Set by the sender of the request."""
    _headers: Headers
    _whole: bytearray
    """Set where the response is no stream."""

    def __init__(self, client: ReplyDialect, parser: StreamParser, receiver: EventReceiver) -> None:
        self._client = client
        self._parser = parser
        self._receiver = receiver
        self._status = 0
        self._sse: SseReader | None = None
        """Set where the response is a stream."""
        self._grace: asyncio.TimerHandle | None = None
        """Ends a reply whose finish came but whose stream does not end."""
        self._grace_ends = 0.0
        self._over = False

    # As the generation.

    def pause_reading(self) -> None:
        self.call.pause_reading()

    def resume_reading(self) -> None:
        self.call.resume_reading()

    def close(self) -> None:
        if not self._over:
            self._end()
            self.call.close()

    # As the receiver of the response.

    def head(self, status: int, headers: Headers) -> None:
        own_id = headers.raw.get(self._client.dialect.id_header)
        if own_id is not None:
            self._parser.exchange.upstream_id = own_id.decode("latin-1")
        self._status = status
        kind = headers.raw.get(b"content-type", b"")
        if status < 300 and (kind.startswith(_EVENT_STREAM) or _is_stream(kind)):
            self._sse = SseReader()
        else:
            self._headers, self._whole = headers, bytearray()

    def data(self, data: bytes) -> None:
        if self._over:
            return
        sse = self._sse
        if sse is None:
            self._collect(data)
            return
        parser = self._parser
        try:
            payloads = sse.feed(data)
        except ProviderError as error:
            self._fail(error)
            return
        outputs = parser.read_all(payloads, sse.take_comments() if sse.comments else 0)
        if outputs:
            self._receiver.output(outputs)
        if parser.closed or parser.finish is not None or parser.failure is not None:
            self._after_end(parser)

    def end(self) -> None:
        if self._over:
            return
        if self._status >= 300:
            body = bytes(self._whole)
            self._fail(self._client.error_of(self._status, self._headers, body))
        elif self._sse is None:
            self._end_whole()
        elif self._parser.is_blank and self._sse.is_blank:
            # koboldcpp, and text-generation-webui: a complete response without a single frame.
            self._fail(BadReply(ErrorClass.EMPTY_REPLY, http_status=200))
        else:
            self._end_stream(self._sse)

    def failed(self, error: ProviderError) -> None:
        if self._over:
            return
        if self._sse is None or error.error_class is ErrorClass.INTERNAL:
            self._fail(error)
        else:  # the parser knows whether the reply was complete before
            self._end_stream(self._sse)

    # Internal.

    def _collect(self, data: bytes) -> None:
        self._whole += data
        if self._status >= 300:
            if len(self._whole) > _MAX_ERROR_BYTES:
                self._fail(BadReply(ErrorClass.RESPONSE_TOO_LARGE))
        elif len(self._whole) > _MAX_WHOLE_BYTES:
            self._fail(BadReply(ErrorClass.RESPONSE_TOO_LARGE))

    def _deliver(self, outputs: Sequence[Output]) -> None:
        """Pass outputs on, then end the reply where the parser says so."""
        if outputs:
            self._receiver.output(outputs)
        self._after_end(self._parser)

    def _after_end(self, parser: StreamParser) -> None:
        """End the reply where a failure or `[DONE]` was read; wait for more after a finish."""
        if self._over:  # closed by the receiver
            return
        if parser.failure is not None:
            self._fail(parser.failure)
        elif parser.closed:
            self._finish()
        elif parser.finish is not None:
            self._start_grace()

    def _end_whole(self) -> None:
        try:
            events = self._client.read_whole_reply(bytes(self._whole), self._parser)
        except ProviderError as error:
            self._fail(error)
            return
        self._parser.exchange.phase = _STREAMING
        self._deliver(events)
        self._finish()

    def _end_stream(self, sse: SseReader) -> None:
        try:
            payloads = sse.finish()
        except ProviderError as error:
            self._fail(error)
            return
        self._deliver(self._parser.read_all(payloads, sse.take_comments()))
        self._finish()

    def _start_grace(self) -> None:
        """Wait for usage and `[DONE]`, from the latest data on."""
        loop = asyncio.get_running_loop()
        self._grace_ends = loop.time() + self._client.dialect.finish_grace_s
        if self._grace is None:
            self._grace = loop.call_at(self._grace_ends, self._end_grace, loop)

    def _end_grace(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.time() < self._grace_ends:  # data came meanwhile
            self._grace = loop.call_at(self._grace_ends, self._end_grace, loop)
        else:
            self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._end()
        try:
            finished = self._parser.end(
                eof_is_end=self._client.dialect.eof_is_end,
                done_is_end=self._client.dialect.done_is_end,
            )
        except ProviderError as error:
            self._fail(error)
            return
        self._parser.exchange.phase = _DONE
        self.call.detach()
        self._receiver.finished(finished)

    def _fail(self, error: ProviderError) -> None:
        self._end()
        self.call.close()
        self._receiver.failed(error)

    def _end(self) -> None:
        self._over = True
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None


class MissingPage:
    """Passes events on; turns a 404 into `unsupported_input`, since chats with the model work."""

    def __init__(self, receiver: EventReceiver) -> None:
        self._receiver = receiver

    def output(self, events: Sequence[Output]) -> None:
        self._receiver.output(events)

    def finished(self, finished: Finished) -> None:
        self._receiver.finished(finished)

    def failed(self, error: ProviderError) -> None:
        if error.http_status in _NO_SUCH_PAGE:
            error = Rejected(ErrorClass.UNSUPPORTED_INPUT, http_status=error.http_status)
        self._receiver.failed(error)


def _is_stream(kind: bytes) -> bool:
    """Whether to read frames: some servers stream without saying so, none as JSON or HTML."""
    return b"event-stream" in kind or not (b"json" in kind or b"html" in kind)
