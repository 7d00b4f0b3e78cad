"""One attempt: receives a reply's events, enforces its time limits, passes output to the sink."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field

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
from understudy.routing.output_buffer import OutputBuffer
from understudy.routing.output_filter import OutputFilter, whole_sentences
from understudy.routing.request import ReplyRequest, ReplySink, SinkKind
from understudy.routing.selection import AttemptOwner, AttemptPlan
from understudy.routing.timeouts import AttemptTimer

_log = structlog.get_logger()
_MOST_UNSENT = 64 * 1024
"""Bytes of output that may wait while the sink sends, before reading from the server stops."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One HTTP request to one candidate. All mutable state of an attempt is in here."""

    plan: AttemptPlan
    request: InitVar[ReplyRequest]
    sink: ReplySink
    owner: AttemptOwner | None
    clock: Callable[[], float]

    exchange: Exchange = field(init=False)
    started: float = field(init=False)
    """When it was sent, without the time in the queue."""
    ended: float | None = None
    failure: ProviderError | None = None
    """Why it failed; `None` once it has ended well."""
    finish_reason: str | None = None
    repeated: bool = False
    """The end of the text repeated itself, and was cut."""
    last_frames: tuple[bytes, ...] = ()
    tool_calls: bool = False
    cancelled: bool = False
    echoed: bool = False
    yielded: bool = False
    """Whether any output went on to the sink."""
    queued_s: float = 0.0
    first_output: float | None = None
    first_visible: float | None = None
    last_useful: float = field(init=False)
    """When output came last; at first when it was sent."""
    max_gap_s: float = 0.0
    reasoning_chars: int = 0
    call_chars: int = 0
    """Of tool calls: names and arguments."""

    _buffer: OutputBuffer = field(init=False)
    _filter: OutputFilter = field(init=False)
    _timer: AttemptTimer | None = None
    _generation: Generation | None = None
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

    def __post_init__(self, request: ReplyRequest) -> None:
        self.exchange = Exchange(phase=Phase.QUEUE, may_wait=self.plan.budget.is_last)
        self.started = self.last_useful = self.clock()
        self._buffer = OutputBuffer(self.sink.kind, self.plan.echoes)
        self._filter = OutputFilter(
            for_people=request.may_trim_prompt,
            raw_completion=request.raw_completion,
            clean=request.clean,
            in_thought=self.plan.in_thought,
        )

    @property
    def text(self) -> str:
        texts = self._texts
        if len(texts) > 1:
            texts[:] = ["".join(texts)]
        return texts[0] if texts else ""

    @property
    def error_class(self) -> ErrorClass | None:
        return None if self.failure is None else self.failure.error_class

    @property
    def template_opens_thought(self) -> bool | None:
        """Whether the chat template opens a thought; `None` where this reply does not show it."""
        if self._filter.opened_by_template:
            return True
        return False if self.plan.in_thought and self.failure is None else None

    def unreleased(self) -> Sequence[Output]:
        """Return what was held back from the sink: reasoning, and frames without text."""
        return tuple(self._buffer.release())

    @property
    def hidden_chars(self) -> int:
        """Output that is paid for as text is."""
        return self.reasoning_chars + self.call_chars

    @property
    def visible_chars(self) -> int:
        return len(self.text)

    async def run(self) -> None:
        """Make the attempt; afterwards `failure` says how it ended.

        Cancelling it, or an exception of the sink, closes the connection.
        """
        queue, acquired = self.plan.queue, False
        try:
            if queue is not None:
                if not queue.try_acquire():
                    await queue.acquire(self.plan.queue_key, self.plan.queue_s)
                    now = self.clock()
                    self.queued_s, self.started, self.last_useful = now - self.started, now, now
                acquired = True
            self._send()
            await self._wait()
        except ProviderError as error:
            self._end(error)
        except BaseException:
            self.cancelled = True
            raise
        finally:
            if not self._over:
                self._end(None)
            if acquired and queue is not None:
                queue.release()

    # As the receiver of the reply's events.

    def output(self, events: Sequence[Output]) -> None:
        if self._over:
            return
        now = self.clock()
        try:
            for event in events:
                if isinstance(event, TextDelta):
                    self._take_text(event, now)
                else:
                    if isinstance(event, ReasoningDelta):
                        self._filter.expect_text()
                    self._pass(event, now)
                if self.finish_reason is not None:
                    self._conclude(now)
                    break
        except ProviderError as error:
            self._end(error)
        self._send_written()

    def finished(self, finished: Finished) -> None:
        if self._over:
            return
        self._generation = None
        self.finish_reason, self.last_frames = finished.reason, finished.frames
        try:
            self._conclude(self.clock())
        except ProviderError as error:
            self._end(error)
        self._send_written()

    def failed(self, error: ProviderError) -> None:
        if self._over:
            return
        if error.error_class is ErrorClass.INTERNAL:
            _log.error("router.internal_error", error=error.detail)
        elif error.error_class is ErrorClass.RESPONSE_TOO_LARGE and self.yielded:
            self.finish_reason = "length"
            self._end(None)
            return
        self._end(error)

    # Internal.

    def _send(self) -> None:
        """Raises `ProviderError` for a request that cannot be sent."""
        self.exchange.phase = Phase.CONNECT
        candidate = self.plan.candidate
        budget = self.plan.budget
        if self.queued_s:
            budget = budget.after(self.queued_s)
        timer = AttemptTimer(budget, self.clock, self.started, self, self._expired)
        timer.start()
        self._timer = timer
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

    async def _wait(self) -> None:
        """Let the sink send what comes, until the attempt is over and all is sent."""
        while not (self._over and not self._written):
            if not self._written:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
                self._wake = None
            if self._written:
                await self._flush()

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
        if not self._written or self._sending:
            return
        if self.sink.try_flush():
            self._written = False
        else:
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _expired(self, limit: ErrorClass) -> None:
        self._end(Unreachable(limit))

    def _end(self, error: ProviderError | None) -> None:
        """The first call decides how it ended; closes what is open."""
        if self._over:
            return
        self._over = True
        self.failure = error
        self.ended = self.clock()
        if self._timer is not None:
            self._timer.stop()
        if self._generation is not None:
            self._generation.close()
        # They refer to this attempt: cycles that only the garbage collector would free.
        self._timer = self._generation = self.owner = None
        self._notify()

    def _take_text(self, event: TextDelta, now: float) -> None:
        checks = self._filter
        if checks.accept(event.text):
            if checks.worthless is None:
                self._pass(event, now)
            else:
                self._pass_filtered(event, (event,), now)
        elif len(event.frames) > 1:
            for frame in event.frames:
                piece = TextDelta(frames.text_in(frame), (frame,))
                self._pass_filtered(piece, checks.push(piece), now)
                if self.finish_reason is not None:
                    return
        else:
            self._pass_filtered(event, checks.push(event), now)

    def _pass_filtered(
        self, event: TextDelta, pieces: Sequence[TextDelta | ReasoningDelta], now: float
    ) -> None:
        if self._filter.worthless is not None:
            owner = self.owner
            seen = self.yielded and owner is not None and owner.committed
            self._filter.refuse_loop(committed=seen)
        if len(pieces) == 1 and pieces[0] is event:
            self._pass(event, now)
        else:
            if self._filter.discard:
                self._discard()
            outputs: Sequence[Output] = pieces
            if event.frames and self.sink.kind is not SinkKind.EDITABLE:
                outputs = frames.filtered(event.frames[0], pieces)
            for output in outputs:
                self._pass(output, now)
        if self._filter.cut:
            self.finish_reason = "stop"
            if self._filter.worthless is not None:
                self._texts = [whole_sentences(self.text[: self._filter.worthless])]
                self.repeated = True

    def _discard(self) -> None:
        """All text so far was reasoning."""
        if self.sink.kind is SinkKind.APPEND_ONLY and self.yielded:
            return
        thought = self.text
        self._texts.clear()
        self._reasoned = True
        self.reasoning_chars += len(thought)
        if not self._buffer.turn_into_reasoning():
            self.sink.restart()
            self.sink.write(ReasoningDelta(thought))
            self._written = True

    def _pass(self, output: Output, now: float) -> None:
        if isinstance(output, TextDelta):
            if not output.text:
                return
            self._texts.append(output.text)
            if self.first_visible is None and not output.text.isspace():
                self.first_visible = now
            self._useful_at(now)
        elif not self._note(output, now):
            return
        if self._buffer.is_open:
            self._write(output)
        else:
            for released in self._buffer.push(output):
                self._write(released)

    def _useful_at(self, now: float) -> None:
        if self.first_output is None:
            self.first_output = now
        self.max_gap_s = max(self.max_gap_s, now - self.last_useful)
        self.last_useful = now

    def _note(self, output: Output, now: float) -> bool:
        """Note an output without text; whether it goes on."""
        if isinstance(output, ReasoningDelta):
            self._reasoned = self._reasoned or bool(output.text)
            self.reasoning_chars += len(output.text)
            useful, visible = bool(output.text), False
        elif isinstance(output, ToolCallDelta):
            self.call_chars += len(output.arguments) + len(output.name or "")
            self.tool_calls = useful = visible = True
        else:
            useful = visible = isinstance(output, OtherDelta) and output.media
            self._media = self._media or visible
        if useful:
            if visible and self.first_visible is None:
                self.first_visible = now
            self._useful_at(now)
        return useful or isinstance(output, OtherDelta)

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
        if self._filter.is_busy:
            self._conclude_filter(now)
        whole = self.tool_calls or self._media
        if not whole and not any(map(str.strip, self._texts)):
            exhausted = self._reasoned and self.finish_reason == "length"
            raise BadReply(ErrorClass.REASONING_EXHAUSTED if exhausted else ErrorClass.EMPTY_REPLY)
        if self.plan.echoes and self._buffer.is_echo and not whole:
            self.echoed = True
            raise BadReply(ErrorClass.GARBAGE, provider_code=ECHO)
        if self.finish_reason == "content_filter":
            raise Rejected(ErrorClass.CONTENT_POLICY)
        for output in self._buffer.release():
            self._write(output)
        self._end(None)

    def _conclude_filter(self, now: float) -> None:
        unclosed = self._filter.is_unclosed and self.finish_reason == "stop"
        for piece in self._filter.rest():
            self._pass(piece, now)
        if unclosed and not self._texts:
            self._texts.append(self._buffer.turn_into_text())
