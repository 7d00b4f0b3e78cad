"""One attempt while it runs: reads the stream, keeps the time, remembers what came."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from understudy.errors import BadReply, ErrorClass, ProviderError, Rejected, Unreachable
from understudy.llm.client import Exchange, Phase
from understudy.llm.messages import ChatEvent, Finished, ReasoningDelta, TextDelta, ToolCallDelta
from understudy.routing.candidates import Candidate, ScopeKey
from understudy.routing.fair_queue import FairQueue
from understudy.routing.output_buffer import Output, OutputBuffer
from understudy.routing.output_filter import OutputFilter
from understudy.routing.records import AttemptRole
from understudy.routing.request import Prompt, ReplyRequest, Restarted, SinkKind
from understudy.routing.timeouts import AttemptTimer, Budget

_log = structlog.get_logger()

Shown = Output | Restarted


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one attempt is to do."""

    candidate: Candidate
    role: AttemptRole
    prompt: Prompt
    budget: Budget
    queue: FairQueue | None = None
    """The line before a server that works on only so many requests at once."""
    queue_key: str = ""
    queue_s: float = 0.0
    """How long to stand in it."""
    is_last: bool = False
    """No usable candidate comes after it, so that it may take its time to load a model."""
    probes: tuple[ScopeKey, ...] = ()
    """Cooldowns this attempt has the lease to probe."""
    echoes: tuple[str, ...] = ()
    """Texts that are no reply when they come back unchanged."""


class Attempt:
    """One HTTP request to one candidate. Everything mutable about an attempt is in here."""

    def __init__(
        self,
        assignment: Assignment,
        request: ReplyRequest,
        is_bound: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.assignment = assignment
        self.exchange = Exchange(phase=Phase.QUEUE, may_wait=assignment.is_last)
        self.failure: ProviderError | None = None
        """Why it failed; `None` once it has finished well."""
        self.finish_reason: str | None = None
        self.tool_calls = False
        self.cancelled = False
        self.echoed = False
        self.yielded = False
        """Whether any output was let through to the sink."""
        self.queued_s = 0.0
        self.started = clock()
        """When it was dispatched, the time in the queue left out."""
        self.ended: float | None = None
        self.first_output: float | None = None
        self.first_visible: float | None = None
        self.max_gap_s = 0.0
        self._has_turn = False
        self._last_useful = self.started
        self._clock = clock
        self._append_only = request.kind is SinkKind.APPEND_ONLY
        self._holdback = OutputBuffer(request.kind, assignment.echoes)
        self._normaliser = OutputFilter(
            for_people=request.may_trim_prompt,
            raw_completion=request.raw_completion,
            is_bound=lambda: self.yielded and is_bound(),
        )
        self._texts: list[str] = []
        self._thought = False

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def error_class(self) -> ErrorClass | None:
        return None if self.failure is None else self.failure.error_class

    @property
    def visible_chars(self) -> int:
        return sum(map(len, self._texts))

    async def events(self) -> AsyncGenerator[Shown, None]:
        """Yield what the sink may have; afterwards `failure` tells how it ended.

        Closing or cancelling it closes the connection.
        """
        try:
            await self._take_turn()
            async with contextlib.aclosing(self._reading()) as outputs:
                async for output in outputs:
                    yield output
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled = True
            raise
        except ProviderError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - a bug in one engine's client must not end the reply
            _log.error("router.internal_error", error=type(error).__name__, exc_info=True)
            self.failure = Unreachable(ErrorClass.INTERNAL)
        finally:
            self.ended = self._clock()
            # It knows this attempt in turn: a circle that memory would wait for the collector in.
            del self._normaliser
            if self._has_turn and self.assignment.queue is not None:
                self.assignment.queue.leave()

    def _failed(self, error: ProviderError) -> None:
        if error.error_class is ErrorClass.RESPONSE_TOO_LARGE and self.yielded:
            self.finish_reason = "length"
        else:
            self.failure = error

    async def _take_turn(self) -> None:
        """Stand in the line before the server, where there is one."""
        queue = self.assignment.queue
        if queue is not None:
            await queue.enter(self.assignment.queue_key, self.assignment.queue_s)
            now = self._clock()
            self.queued_s, self.started, self._last_useful = now - self.started, now, now
            self._has_turn = True
        self.exchange.phase = Phase.CONNECT

    async def _reading(self) -> AsyncGenerator[Shown, None]:
        client, model = self.assignment.candidate.client, self.assignment.candidate.model
        stream = client.stream(self.assignment.prompt.request, model, self.exchange)
        async with contextlib.aclosing(stream):
            with AttemptTimer(
                self.assignment.budget.after(self.queued_s), self._clock, self.started
            ) as watch:
                async for event in stream:
                    released = self._take(event, watch)
                    if released:
                        watch.pause()
                        for output in released:
                            yield output
                        watch.resume(self._clock())
                    if self.finish_reason is not None:
                        break
                for piece in self._normaliser.rest():
                    for shown in self._pass(piece, watch):
                        yield shown
        for output in self._concluded():
            yield output

    def _take(self, event: ChatEvent, watch: AttemptTimer) -> Sequence[Shown]:
        if isinstance(event, Finished):
            self.finish_reason = event.reason
            return ()
        if not isinstance(event, TextDelta):
            return self._pass(event, watch)
        pieces = self._normaliser.take(event)
        if len(pieces) == 1 and pieces[0] is event:
            return self._cut(self._pass(event, watch))
        shown: list[Shown] = []
        if self._normaliser.forget:
            shown += self._forgotten()
        for piece in pieces:
            shown += self._pass(piece, watch)
        return self._cut(shown)

    def _forgotten(self) -> Sequence[Shown]:
        if self._append_only and self.yielded:
            return ()
        self._texts.clear()
        self._thought = True
        return () if self._holdback.forget() else (Restarted(),)

    def _cut(self, shown: Sequence[Shown]) -> Sequence[Shown]:
        if self._normaliser.cut:
            self.finish_reason = "stop"
            if self._normaliser.keep is not None:
                self._texts = [self.text[: self._normaliser.keep]]
        return shown

    def _pass(self, event: Output, watch: AttemptTimer) -> Sequence[Output]:
        visible = self._remember(event)
        if visible is None:
            return ()
        now = self._clock()
        watch.useful(now, visible=visible)
        self._mark(now, visible=visible)
        return self._holdback.take(event)

    def _remember(self, event: Output) -> bool | None:
        """Whether the event can be seen; `None` when it is no output at all."""
        if isinstance(event, ToolCallDelta):
            self.tool_calls = True
            return True
        if not event.text:
            return None
        if isinstance(event, ReasoningDelta):
            self._thought = True
            return False
        self._texts.append(event.text)
        return self.first_visible is not None or not event.text.isspace()

    def _mark(self, now: float, *, visible: bool) -> None:
        if self.first_output is None:
            self.first_output = now
        if visible and self.first_visible is None:
            self.first_visible = now
        self.max_gap_s = max(self.max_gap_s, now - self._last_useful)
        self._last_useful = now

    def _concluded(self) -> Iterator[Shown]:
        """Draw the line under a stream that ended; raises when what came is no reply."""
        if self.finish_reason is None:
            raise BadReply(ErrorClass.TRUNCATED_STREAM)
        if not self.tool_calls and not any(map(str.strip, self._texts)):
            exhausted = self._thought and self.finish_reason == "length"
            raise BadReply(ErrorClass.REASONING_EXHAUSTED if exhausted else ErrorClass.EMPTY_REPLY)
        if self._holdback.is_echo and not self.tool_calls:
            self.echoed = True
            raise BadReply(ErrorClass.GARBAGE, provider_code="echo")
        if self.finish_reason == "content_filter":
            raise Rejected(ErrorClass.CONTENT_POLICY)
        yield from self._holdback.release()
