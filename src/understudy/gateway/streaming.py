"""Sinks of the gateway: a stream of events, and an answer in one piece."""

import asyncio
from collections.abc import Iterable
from functools import lru_cache

from understudy.errors import RequestRefused
from understudy.gateway.accumulator import ReplyAccumulator
from understudy.gateway.responses import DONE, KEEP_ALIVE, Envelope, Form, whole_answer
from understudy.http_server.exchange import Exchange, header_lines
from understudy.llm.messages import Output, ReplyIdentity, TextDelta
from understudy.llm.plain_frames import usage_of_plain
from understudy.routing.records import AttemptRecord, Outcome
from understudy.routing.request import Answering, HeldSink, ReplyEnded, SinkKind

KEEP_ALIVE_S = 15.0
_TICKS = 3
"""In that time."""
_SSE = header_lines(
    [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        # nginx buffers a stream unless this header says not to.
        (b"x-accel-buffering", b"no"),
    ]
)
_LONGEST_HEADER = 256
_MOST_UNREAD = 64


class KeepAlive:
    """Notes silent streams: one timer for all of them."""

    def __init__(self, after_s: float = KEEP_ALIVE_S) -> None:
        """A stream that is silent for so long is sent a comment, or a little before."""
        self._tick_s = after_s / _TICKS
        self._streams: set[StreamSink] = set()
        self._ticking = False

    def add(self, stream: "StreamSink") -> None:
        self._streams.add(stream)
        if not self._ticking:
            self._start(asyncio.get_running_loop())

    def discard(self, stream: "StreamSink") -> None:
        self._streams.discard(stream)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticking = bool(self._streams)
        if self._ticking:
            loop.call_later(self._tick_s, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._start(loop)
        for stream in self._streams:
            # Should one raise, the others are checked all the same.
            loop.call_soon(self._check, stream)

    def _check(self, stream: "StreamSink") -> None:
        if stream in self._streams:
            stream.tick()


class StreamSink:
    """Passes a reply on to a client as it comes.

    A silent stream is sent comments: its response then begins with status 200 even if the first
    output is still to come.
    """

    kind = SinkKind.APPEND_ONLY

    def __init__(self, form: Form, exchange: Exchange, lines: bytes, keep_alive: KeepAlive) -> None:
        """`lines` are encoded headers of the response."""
        self._form = form
        self._exchange = exchange
        self._lines = lines
        self._envelope: Envelope | None = None
        self._answered_by = b""
        self._begun = False
        self._unsent: list[bytes] = []
        self._silent_ticks = 0
        self._keep_alive = keep_alive
        keep_alive.add(self)

    def is_visible(self) -> bool:
        return self._exchange.started

    def start(self, answering: Answering) -> None:
        self._envelope = Envelope(self._form, answering.identity, answering.model)
        self._answered_by = answered_by(answering.provider, answering.model, answering.tries)

    def write(self, output: Output) -> None:
        envelope = self._envelope or self._unknown()
        if not self._begun:
            self._begun = True
            self._unsent.append(envelope.role(output))
        self._unsent.append(envelope.events(output))

    def restart(self) -> None:
        """What was sent to a client cannot be replaced, so the router never calls this."""

    def attempt_ended(self, record: AttemptRecord) -> None:
        """The records of the attempts are not sent."""

    def try_flush(self) -> bool:
        if self._exchange.client.paused:
            return False
        self._send()
        return True

    async def flush(self) -> None:
        await self._exchange.drain()
        self._send()

    async def end(self, end: ReplyEnded, refusal: RequestRefused | None) -> None:
        """Send the last events; `refusal` says why the reply is not complete."""
        envelope, usage = self._envelope or self._unknown(), self._form.include_usage
        if refusal is None:
            last = envelope.last_events(end, include_usage=usage)
        else:
            last = envelope.broken(refusal)
            last += envelope.usage_event(end.record.usage) if usage else b""
        await self._exchange.drain()
        self._finish(last)

    def break_off(self, refusal: RequestRefused) -> None:
        """End a stream that the router has not ended."""
        self._finish((self._envelope or self._unknown()).broken(refusal))

    def tick(self) -> None:
        """Send a comment after some ticks without output."""
        self._silent_ticks += 1
        if self._silent_ticks >= _TICKS:
            self._silent_ticks = 0
            if not self._exchange.client.paused:  # else the client does not read what it was sent
                self._open()
                self._exchange.write(KEEP_ALIVE)

    def close(self) -> None:
        self._keep_alive.discard(self)

    def _unknown(self) -> Envelope:
        """Return the form of a reply whose server is not known."""
        envelope = self._envelope = Envelope(self._form, ReplyIdentity(), "")
        return envelope

    def _send(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if not self._exchange.started:
            self._open()
        self._exchange.write(data)
        self._silent_ticks = 0

    def _finish(self, events: bytes) -> None:
        self._open()
        self._exchange.finish(b"".join([*self._unsent, events, DONE]))

    def _open(self) -> None:
        if not self._exchange.started:
            self._exchange.start(200, b"%b%b%b" % (_SSE, self._lines, self._answered_by))


class AnswerSink(HeldSink):
    """Accumulates a reply for a client that does not stream.

    Frames are read together at the end; one that holds more than text makes an accumulator.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._unread: list[bytes] = []
        self._gathered: ReplyAccumulator | None = None

    def write(self, output: Output) -> None:
        if not output.frames:
            self._gather().add(output)
        elif not (isinstance(output, TextDelta) and output.plain):
            self._unread += output.frames
            if len(self._unread) > _MOST_UNREAD:
                self._gather()

    def _gather(self) -> ReplyAccumulator:
        if self._gathered is None:
            self._gathered = ReplyAccumulator()
        self._gathered.add_frames(self._unread)
        self._unread.clear()
        return self._gathered

    def answer(self, end: ReplyEnded) -> tuple[bytes, bytes] | None:
        """Return encoded headers and the body; `None` where there is no complete reply."""
        winner = end.record.winner
        if winner is None or end.finish_reason is None:
            return None
        model = winner.model_served or winner.model_requested
        attempts = end.record.attempts
        made = 1 if len(attempts) == 1 else tries(attempts)
        lines = answered_by(winner.provider, model, made)
        self._unread += end.frames
        usage = usage_of_plain(self._unread) if self._gathered is None else None
        if usage is not None:
            return lines, whole_answer(self._form, end, model, usage, None)
        gathered = self._gather()
        return lines, whole_answer(self._form, end, model, gathered.usage, gathered)


@lru_cache(maxsize=1024)
def answered_by(provider: str, model: str, attempts: int) -> bytes:
    """Return the encoded headers that name the answering server and the number of attempts."""
    return header_lines(
        [
            (b"x-router-provider", _header_value(provider)),
            (b"x-router-model", _header_value(model)),
            (b"x-router-attempts", b"%d" % attempts),
        ]
    )


def tries(attempts: Iterable[AttemptRecord]) -> int:
    """Count the attempts that were made, skips excluded."""
    return len([attempt for attempt in attempts if attempt.outcome is not Outcome.SKIPPED])


def _header_value(name: str) -> bytes:
    """Return a name that a server may have chosen in a form that a header can hold."""
    if name.isascii() and name.isprintable() and len(name) <= _LONGEST_HEADER:
        return name.strip().encode()
    printable = "".join(c if " " <= c <= "~" else "?" for c in name[:_LONGEST_HEADER])
    return printable.strip().encode()
