"""The output of one attempt: filtered, counted, held back until it commits, then written."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from understudy.errors import BadReply, ErrorClass, ProviderError, Rejected
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
from understudy.routing.output_filter import OutputFilter, whole_sentences
from understudy.routing.request import ReplyRequest, ReplySink, SinkKind
from understudy.routing.selection import AttemptOwner, AttemptPlan
from understudy.routing.timeouts import AttemptTimers

_MOST_UNSENT = 64 * 1024
"""Bytes of output that may wait while the sink sends, before reading from the server stops."""
_MOST_HELD_CHARS = 65_536
_MOST_HELD_OTHERS = 64
_SHORTEST_ECHO = 24
"""A shorter text is a reply: people greet with the words they were greeted with."""
# Read for each attempt: looking up the member of an enum takes longer than a call.
_HELD, _QUEUE = SinkKind.HELD, Phase.QUEUE


@dataclass(slots=True, eq=False)
class AttemptOutput(ABC):
    """Takes the events of one reply and passes them to the sink.

    Output is held until visible text, a tool call or media has come. Reasoning and leading blanks
    alone never commit an attempt, so one that fails while it reasons is replaced unseen. For a
    sink that shows nothing before the end, everything is held.
    """

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
    started: float = field(init=False)
    """When it was sent, without the time in the queue."""
    last_useful: float = field(init=False)
    """When output came last; at first when it was sent."""
    finish_reason: str | None = None
    last_frames: tuple[bytes, ...] = ()
    repeated: bool = False
    """The end of the text repeated itself, and was cut."""
    echoed: bool = False
    yielded: bool = False
    """Whether any output went on to the sink."""
    tool_calls: bool = False
    first_output: float | None = None
    first_visible: float | None = None
    max_gap_s: float = 0.0
    reasoning_chars: int = 0
    call_chars: int = 0
    """Of tool calls: names and arguments."""

    _generation: Generation | None = None
    _texts: list[str] = field(default_factory=list)
    _media: bool = False
    _reasoned: bool = False
    over: bool = False
    written: bool = False
    """Whether the sink has something to send."""
    _unsent: int = 0
    _sending: bool = False
    _paused: bool = False
    _wake: "asyncio.Future[None] | None" = None
    """What the task of the request waits for."""

    _held: list[Output] | None = field(default_factory=list)
    """What waits for the attempt to be committed; `None` once all output goes on at once."""
    _to_the_end: bool = field(init=False)
    """Whether everything is held until the reply is complete."""
    _held_chars: int = 0
    _held_others: int = 0
    _echoes: Sequence[str] = ()
    """Those that the text may still turn out to be."""

    def __post_init__(self) -> None:
        plan, request = self.plan, self.request
        self.started = self.last_useful = self.clock()
        self.exchange = Exchange(plan.budget.is_last, 0.0, _QUEUE)
        # By position: names cost a dict for each call of a class.
        self.output_filter = OutputFilter(
            request.may_trim_prompt, request.raw_completion, request.clean, plan.in_thought
        )
        self._to_the_end = self.sink.kind is _HELD
        if plan.echoes:
            self._echoes = [t for e in plan.echoes if len(t := e.strip()) >= _SHORTEST_ECHO]

    @abstractmethod
    def _end(self, error: ProviderError | None, now: float) -> None:
        """The first call decides how the attempt ended."""

    def output(self, events: Sequence[Output]) -> None:
        if self.over:
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
        if self.written:
            self._send_written()

    def finished(self, finished: Finished) -> None:
        if self.over:
            return
        now = self.clock()
        self._generation = None
        self.finish_reason, self.last_frames = finished.reason, finished.frames
        try:
            self._conclude(now)
        except ProviderError as error:
            self._end(error, now)
        if self.written:
            self._send_written()

    def unreleased(self) -> Sequence[Output]:
        """Return what was held back from the sink, and hold nothing any more."""
        held, self._held = self._held or (), None
        return held

    # Internal.

    def _send_written(self) -> None:
        """Let the sink send at once what was written to it, or else wake who waits for it."""
        if self._sending:
            return
        if self.sink.try_flush():
            self.written = False
        elif self._wake is not None and not self._wake.done():
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
        if self._held is None:
            self.sink.restart()
            self.sink.write(ReasoningDelta(thought))
            self.written = True
        else:
            self._held = [_as_reasoning(o) if isinstance(o, TextDelta) else o for o in self._held]

    def _pass(self, output: Output, now: float) -> None:
        if isinstance(output, TextDelta):
            self._pass_text(output, now)
            return
        useful, visible = self._note(output)
        if visible and self.first_visible is None:
            self.first_visible = now
        if useful:
            self._useful_at(now)
        elif not isinstance(output, OtherDelta):
            return
        if self._held is None:
            self._write(output)
        else:
            self._hold(output)

    def _pass_text(self, output: TextDelta, now: float) -> None:
        text = output.text
        if not text:
            return
        self._texts.append(text)
        if self.first_visible is None and not text.isspace():
            self.first_visible = now
        self._useful_at(now)
        held = self._held
        if held is None:
            self._write(output)
        elif self._to_the_end and not self._echoes:
            held.append(output)
        else:
            self._hold(output)

    def _useful_at(self, now: float) -> None:
        if self.first_output is None:
            self.first_output = now
        gap_s = now - self.last_useful
        if gap_s > self.max_gap_s:
            self.max_gap_s = gap_s
        self.last_useful = now

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
        self.written = True
        if self._sending:
            self._unsent += sum(map(len, output.frames)) or 64
            if self._unsent > _MOST_UNSENT and not self._paused and self._generation is not None:
                self._paused = True
                self._generation.pause_reading()

    def _hold(self, output: Output) -> None:
        """Keep an output, and release all when it commits the attempt."""
        held = self._held
        assert held is not None
        if isinstance(output, OtherDelta) and not output.media:
            self._held_others += 1
            if self._held_others <= _MOST_HELD_OTHERS:
                held.append(output)
            return
        held.append(output)
        if isinstance(output, TextDelta | ReasoningDelta):
            self._held_chars += len(output.text)
        commits = _commits(output) and not self._may_echo(output)
        if not self._to_the_end and (commits or self._held_chars > _MOST_HELD_CHARS):
            for released in self.unreleased():
                self._write(released)

    def _may_echo(self, output: Output) -> bool:
        """Whether the text so far may be the beginning of one that it was to answer."""
        if not (self._echoes and isinstance(output, TextDelta)):
            return False
        text = "".join(self._texts).lstrip()
        self._echoes = [echo for echo in self._echoes if (echo + "\n\n").startswith(text)]
        return bool(self._echoes)

    def _conclude(self, now: float) -> None:
        """End a reply whose stream is complete; raises where what came is no reply."""
        if self.output_filter.is_busy():
            self._conclude_filter(now)
        whole = self.tool_calls or self._media
        if not whole and not any(map(str.strip, self._texts)):
            exhausted = self._reasoned and self.finish_reason == "length"
            raise BadReply(ErrorClass.REASONING_EXHAUSTED if exhausted else ErrorClass.EMPTY_REPLY)
        if self._is_echo(whole=whole):
            self.echoed = True
            raise BadReply(ErrorClass.GARBAGE, provider_code=ECHO)
        if self.finish_reason == "content_filter":
            raise Rejected(ErrorClass.CONTENT_POLICY)
        held, self._held = self._held, None
        for output in held or ():
            self._write(output)
        self._end(None, now)

    def _is_echo(self, *, whole: bool) -> bool:
        """Whether all that came is a text that it was to answer, and none of it is shown."""
        if not self._echoes or whole or self._held is None:
            return False
        return "".join(self._texts).strip() in self._echoes

    def _conclude_filter(self, now: float) -> None:
        unclosed = self.output_filter.is_unclosed and self.finish_reason == "stop"
        for piece in self.output_filter.rest():
            self._pass(piece, now)
        if unclosed and not self._texts:
            held = self._held or []
            self._held = [_as_text(o) if isinstance(o, ReasoningDelta) else o for o in held]
            self._texts += [o.text for o in self._held if isinstance(o, TextDelta)]


def _as_reasoning(output: TextDelta) -> ReasoningDelta:
    payloads = [frames.as_reasoning(frame, frames.text_in(frame)) for frame in output.frames]
    return ReasoningDelta(output.text, tuple(payloads))


def _as_text(output: ReasoningDelta) -> TextDelta:
    return TextDelta(output.text, tuple(map(frames.as_text, output.frames)))


def _commits(output: Output) -> bool:
    if isinstance(output, TextDelta):
        return bool(output.text) and not output.text.isspace()
    return isinstance(output, ToolCallDelta | OtherDelta)
