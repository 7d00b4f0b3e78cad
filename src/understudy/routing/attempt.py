"""One attempt: receives a reply's events, enforces its time limits, passes output to the sink."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from understudy.errors import BadReply, ErrorClass, ProviderError, Rejected, Unreachable
from understudy.llm import frames
from understudy.llm.client import Exchange, Generation, Phase
from understudy.llm.messages import (
    Finished,
    OtherDelta,
    Output,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from understudy.routing.failure_policy import ECHO
from understudy.routing.fair_queue import FairQueue
from understudy.routing.output_buffer import OutputBuffer
from understudy.routing.output_filter import OutputFilter, whole_sentences
from understudy.routing.records import BreakerChange
from understudy.routing.request import ReplyRequest, ReplySink, SinkKind
from understudy.routing.selection import AttemptOwner, AttemptPlan
from understudy.routing.timeouts import AttemptTimer, AttemptTimers

_log = structlog.get_logger()
# Read for each attempt: looking up the member of an enum takes longer than a call.
_QUEUE, _CONNECT = Phase.QUEUE, Phase.CONNECT
_MOST_UNSENT = 64 * 1024
"""Bytes of output that may wait while the sink sends, before reading from the server stops."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One HTTP request to one candidate. All mutable state of an attempt is in here."""

    plan: AttemptPlan
    request: ReplyRequest
    sink: ReplySink
    owner: AttemptOwner | None
    clock: Callable[[], float]
    timers: AttemptTimers
    number: int
    """Among the request's attempts, from 1, skips included."""

    exchange: Exchange = field(init=False)
    output_filter: OutputFilter = field(init=False)
    buffer: OutputBuffer = field(init=False)
    started: float = field(init=False)
    """When it was sent, without the time in the queue."""
    last_useful: float = field(init=False)
    """When output came last; at first when it was sent."""
    ended: float | None = None
    failure: ProviderError | None = None
    """Why it failed; `None` once it has ended well."""
    finish_reason: str | None = None
    repeated: bool = False
    """The end of the text repeated itself, and was cut."""
    last_frames: tuple[bytes, ...] = ()
    text: str = ""
    """All that is visible, once it has ended."""
    tool_calls: bool = False
    cancelled: bool = False
    echoed: bool = False
    yielded: bool = False
    """Whether any output went on to the sink."""
    queued_s: float = 0.0
    first_output: float | None = None
    first_visible: float | None = None
    max_gap_s: float = 0.0
    reasoning_chars: int = 0
    call_chars: int = 0
    """Of tool calls: names and arguments."""
    breaker: BreakerChange | None = None
    """What it did to a cooldown of its candidate."""
    held_until: float | None = None
    """Wall clock until which its candidate is in a cooldown."""

    _timer: AttemptTimer | None = None
    _generation: Generation | None = None
    _place: FairQueue | None = None
    """The queue in which it has a place."""
    _texts: list[str] = field(default_factory=list)
    _media: bool = False
    _reasoned: bool = False
    _over: bool = False
    _written: bool = False
    """Whether the sink has something to send."""
    _unsent: int = 0
    _sending: bool = False
    _paused: bool = False
    _wake: "asyncio.Future[None] | None" = None

    def __post_init__(self) -> None:
        plan, request = self.plan, self.request
        self.started = self.last_useful = self.clock()
        self.exchange = Exchange(plan.budget.is_last, 0.0, _QUEUE)
        self.output_filter = OutputFilter(
            for_people=request.may_trim_prompt,
            raw_completion=request.raw_completion,
            clean=request.clean,
            in_thought=plan.in_thought,
        )
        self.buffer = OutputBuffer(self.sink.kind, plan.echoes)

    @property
    def error_class(self) -> ErrorClass | None:
        return None if self.failure is None else self.failure.error_class

    async def run(self) -> None:
        """Make the attempt; afterwards `failure` says how it ended.

        Cancelling it, or an exception of the sink, closes the connection.
        """
        queue = self.plan.queue
        try:
            if queue is not None and not queue.try_acquire():
                await self._queue_up(queue)
            self._place = queue
            loop = asyncio.get_running_loop()
            self._send(loop)
            while self._written or not self._over:
                if self._written:
                    await self._flush()
                else:
                    self._wake = loop.create_future()
                    await self._wake
        except ProviderError as error:
            self._end(error, self.clock())
        except BaseException:
            self.cancelled = True
            raise
        finally:
            if not self._over:
                self._end(None, self.clock())

    # As the receiver of the reply's events.

    def output(self, events: Sequence[Output]) -> None:
        if self._over:
            return
        now, checks = self.clock(), self.output_filter
        try:
            for event in events:
                if type(event) is TextDelta and checks.accept(event.text) and not checks.cut:
                    self._pass_text(event, now)
                else:
                    self._pass_odd(event, now)
                if self.finish_reason is not None:
                    self._conclude(now)
                    break
        except ProviderError as error:
            self._end(error, now)
        if self._written:
            self._send_written()

    def finished(self, finished: Finished) -> None:
        if self._over:
            return
        now = self.clock()
        self._generation = None
        self.finish_reason, self.last_frames = finished.reason, finished.frames
        try:
            self._conclude(now)
        except ProviderError as error:
            self._end(error, now)
        if self._written:
            self._send_written()

    def failed(self, error: ProviderError) -> None:
        if self._over:
            return
        if error.error_class is ErrorClass.INTERNAL:
            _log.error("router.internal_error", error=error.detail)
        elif error.error_class is ErrorClass.RESPONSE_TOO_LARGE and self.yielded:
            self.finish_reason = "length"
            self._end(None, self.clock())
            return
        self._end(error, self.clock())

    # Internal.

    async def _queue_up(self, queue: FairQueue) -> None:
        """Wait for a place; the last candidate may as well wait: there is no other."""
        budget = self.plan.budget
        wait_s = budget.visible_s if budget.is_last else self.plan.candidate.limits.queue_s
        await queue.acquire(self.request.queue_key, wait_s)
        now = self.clock()
        self.queued_s, self.started, self.last_useful = now - self.started, now, now

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises `ProviderError` for a request that cannot be sent."""
        self.exchange.phase = _CONNECT
        candidate, budget = self.plan.candidate, self.plan.budget
        if self.queued_s:
            budget = budget.after(self.queued_s)
        self._timer = AttemptTimer(budget, self, self.timers, loop)
        try:
            self._generation = candidate.client.start(
                self.plan.prompt.request, candidate.model, self.exchange, self
            )
        except ProviderError:
            raise
        except Exception as error:  # noqa: BLE001
            # A bug in one engine's client must not end the reply.
            _log.error("router.internal_error", error=type(error).__name__, exc_info=True)
            raise Unreachable(ErrorClass.INTERNAL) from None

    async def _flush(self) -> None:
        self._written, self._sending, self._unsent = False, True, 0
        timer = self._timer
        if timer is not None:
            timer.pause()
        await self.sink.flush()
        self._sending = False
        if self._over:
            return
        if timer is not None:
            timer.resume()
        if self._paused and self._generation is not None:
            self._paused = False
            self._generation.resume_reading()

    def _send_written(self) -> None:
        """Let the sink send at once what was written to it, or else wake who waits for it."""
        if self._sending:
            return
        if self.sink.try_flush():
            self._written = False
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def expired(self, limit: ErrorClass) -> None:
        """End it for a time limit."""
        self._end(Unreachable(limit), self.clock())

    def _end(self, error: ProviderError | None, now: float) -> None:
        """The first call decides how it ended; closes what is open."""
        if self._over:
            return
        self._over = True
        self.failure, self.ended = error, now
        self.text = "".join(self._texts)
        if self._timer is not None:
            self._timer.stop()
        if self._generation is not None:
            self._generation.close()
        # They refer to this attempt: cycles that only the garbage collector would free.
        self._timer = self._generation = self.owner = None
        if self._place is not None:
            self._place.release()
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _pass_odd(self, event: Output, now: float) -> None:
        """Pass on what is no text, or what the filter leaves of a text that it changes."""
        checks = self.output_filter
        if not isinstance(event, TextDelta):
            if isinstance(event, ReasoningDelta):
                checks.expect_text()
            self._pass(event, now)
        elif checks.worthless is not None:
            self._pass_filtered(event, (event,), now)
        elif len(event.frames) < 2:
            self._pass_filtered(event, checks.push(event), now)
        else:
            for frame in event.frames:
                piece = TextDelta(frames.text_in(frame), (frame,))
                self._pass_filtered(piece, checks.push(piece), now)
                if self.finish_reason is not None:
                    return

    def _pass_filtered(
        self, event: TextDelta, pieces: Sequence[TextDelta | ReasoningDelta], now: float
    ) -> None:
        if self.output_filter.worthless is not None:
            owner = self.owner
            seen = self.yielded and owner is not None and owner.committed()
            self.output_filter.refuse_loop(committed=seen)
        if len(pieces) == 1 and pieces[0] is event:
            self._pass(event, now)
        else:
            if self.output_filter.discard:
                self._discard()
            outputs: Sequence[Output] = pieces
            if event.frames and self.sink.kind is not SinkKind.EDITABLE:
                outputs = frames.filtered(event.frames[0], pieces)
            for output in outputs:
                self._pass(output, now)
        if self.output_filter.cut:
            self.finish_reason = "stop"
            if self.output_filter.worthless is not None:
                text = "".join(self._texts)[: self.output_filter.worthless]
                self._texts = [whole_sentences(text)]
                self.repeated = True

    def _discard(self) -> None:
        """All text so far was reasoning."""
        if self.sink.kind is SinkKind.APPEND_ONLY and self.yielded:
            return
        thought = "".join(self._texts)
        self._texts.clear()
        self._reasoned = True
        self.reasoning_chars += len(thought)
        if not self.buffer.turn_into_reasoning():
            self.sink.restart()
            self.sink.write(ReasoningDelta(thought))
            self._written = True

    def _pass(self, output: Output, now: float) -> None:
        if isinstance(output, TextDelta):
            self._pass_text(output, now)
            return
        useful, visible = self._note(output)
        if visible and self.first_visible is None:
            self.first_visible = now
        if useful or isinstance(output, OtherDelta):
            self._push(output, now, useful=useful)

    def _pass_text(self, output: TextDelta, now: float) -> None:
        text = output.text
        if not text:
            return
        self._texts.append(text)
        if self.first_visible is None and not text.isspace():
            self.first_visible = now
        self._push(output, now)

    def _push(self, output: Output, now: float, *, useful: bool = True) -> None:
        """Write an output to the sink, or keep it until the attempt is committed."""
        if useful:
            if self.first_output is None:
                self.first_output = now
            gap_s = now - self.last_useful
            if gap_s > self.max_gap_s:
                self.max_gap_s = gap_s
            self.last_useful = now
        if self.buffer.is_open:
            self._write(output)
            return
        for released in self.buffer.push(output):
            self._write(released)

    def _note(self, output: Output) -> tuple[bool, bool]:
        """Note an output without text; whether it is useful, and whether it is visible."""
        if isinstance(output, ReasoningDelta):
            self._reasoned = self._reasoned or bool(output.text)
            self.reasoning_chars += len(output.text)
            return bool(output.text), False
        if isinstance(output, ToolCallDelta):
            self.call_chars += len(output.arguments) + len(output.name or "")
            self.tool_calls = True
            return True, True
        media = isinstance(output, OtherDelta) and output.media
        self._media = self._media or media
        return media, media

    def _write(self, output: Output) -> None:
        if not self.yielded:
            self.yielded = True
            assert self.owner is not None
            self.owner.begin_output(self.plan.candidate, self.exchange.identity)
        self.sink.write(output)
        self._written = True
        if self._sending:
            self._unsent += sum(map(len, output.frames)) or 64
            if self._unsent > _MOST_UNSENT and not self._paused and self._generation is not None:
                self._paused = True
                self._generation.pause_reading()

    def _conclude(self, now: float) -> None:
        """End a reply whose stream is complete; raises where what came is no reply."""
        if self.output_filter.is_busy():
            self._conclude_filter(now)
        whole = self.tool_calls or self._media
        if not whole and not any(map(str.strip, self._texts)):
            exhausted = self._reasoned and self.finish_reason == "length"
            raise BadReply(ErrorClass.REASONING_EXHAUSTED if exhausted else ErrorClass.EMPTY_REPLY)
        if self.plan.echoes and self.buffer.is_echo and not whole:
            self.echoed = True
            raise BadReply(ErrorClass.GARBAGE, provider_code=ECHO)
        if self.finish_reason == "content_filter":
            raise Rejected(ErrorClass.CONTENT_POLICY)
        for output in self.buffer.release():
            self._write(output)
        self._end(None, now)

    def _conclude_filter(self, now: float) -> None:
        unclosed = self.output_filter.is_unclosed and self.finish_reason == "stop"
        for piece in self.output_filter.rest():
            self._pass(piece, now)
        if unclosed and not self._texts:
            self._texts.append(self.buffer.turn_into_text())
