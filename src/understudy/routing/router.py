"""ModelRouter: one chat request in, one reply out, by walking the candidates in order.

The only place in the program that retries, skips or falls back.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from understudy.errors import ErrorClass
from understudy.llm.capabilities import CapabilityBook
from understudy.llm.prices import PriceBook
from understudy.routing.attempts import (
    AttemptObserver,
    AttemptRecord,
    AttemptRole,
    NextStep,
    OfflineReason,
    SkipReason,
)
from understudy.routing.candidate import Candidate
from understudy.routing.deadlines import Deadline, budget
from understudy.routing.holdback import Holdback
from understudy.routing.recording import Offline, Recorder, Scrub, Skip, Verdict
from understudy.routing.request import (
    AttemptEnded,
    Fit,
    ReplyRequest,
    RouterEvent,
)
from understudy.routing.running import Assignment, RunningAttempt
from understudy.routing.trip import Trip


@dataclass(frozen=True, slots=True)
class Instruments:
    """What the router is given of the world around it."""

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Random = field(default_factory=Random)
    observers: Sequence[AttemptObserver] = ()
    prices: PriceBook = field(default_factory=PriceBook)
    scrub: Scrub | None = None
    """Makes server text fit for records (`debug.error_text`); `None` leaves it out."""


@dataclass(frozen=True, slots=True)
class RouterRules:
    """What the operator decided about all candidates together."""

    deadline: Deadline = field(default_factory=Deadline)
    max_attempts: int | None = None
    stop_on_content_policy: bool = True
    config_rev: str = ""


class ModelRouter:
    """Immutable in its candidates and rules: a changed configuration makes a new router."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        rules: RouterRules | None = None,
        *,
        book: CapabilityBook | None = None,
        instruments: Instruments | None = None,
    ) -> None:
        self.candidates = tuple(candidates)
        self.rules = rules or RouterRules()
        self._tools = instruments or Instruments()
        self.book = book or CapabilityBook(self._tools.clock)

    async def reply(self, request: ReplyRequest) -> AsyncGenerator[RouterEvent, None]:
        """Yield one reply; `ReplyEnded` is always last, unless the caller closes or cancels.

        Wrap it in `contextlib.aclosing`: closing it closes the upstream connection at once, and
        still leaves exactly one record of everything that was started.
        """
        trip = self._set_out(request)
        try:
            while (step := self._next_step(trip)) is not None:
                if isinstance(step, AttemptRecord):
                    yield AttemptEnded(step)
                    continue
                run = self._start(trip, step)
                async with contextlib.aclosing(run.events()) as outputs:
                    async for output in outputs:
                        if not run.yielded:
                            run.yielded = True
                            for event in trip.announce(run):
                                yield event
                        yield output
                yield AttemptEnded(self._conclude(trip, run))
            yield trip.end(self._offline(trip))
        finally:
            trip.abandon()

    def _set_out(self, request: ReplyRequest) -> Trip:
        candidates = self._order(request)
        recorder = Recorder(
            request=request,
            of_max=self.rules.max_attempts or len(candidates) + 2,
            wall=self._tools.wall,
            clock=self._tools.clock,
            prices=self._tools.prices,
            scrub=self._tools.scrub,
            config_rev=self.rules.config_rev,
            observers=self._tools.observers,
        )
        return Trip(request, candidates, recorder, self.rules.deadline, self._tools.clock())

    def _order(self, request: ReplyRequest) -> Sequence[Candidate]:
        if request.order is None:
            return self.candidates
        wanted = (c for name in request.order for c in self.candidates if c.answers_to(name))
        return tuple(dict.fromkeys(wanted))

    def _next_step(self, trip: Trip) -> Assignment | AttemptRecord | None:
        now = self._tools.clock()
        if trip.decided or not trip.waiting or trip.remaining_s(now) <= 0:
            return None
        candidate = trip.waiting.popleft()
        if candidate.off is not None:
            return trip.skip(candidate, Skip(candidate.off))
        if not trip.request.may_spend() and not self._tools.prices.is_free(
            candidate.provider, candidate.engine, candidate.model
        ):
            return trip.skip(candidate, Skip(SkipReason.BUDGET))
        return self._assign(trip, candidate, now)

    def _assign(self, trip: Trip, candidate: Candidate, now: float) -> Assignment:
        known = self.book.of(candidate.key, candidate.capabilities)
        vision = known.vision if known.vision is not None else not candidate.blind
        fit = Fit(
            known.n_ctx,
            candidate.reply_tokens,
            vision,
            self.book.tokens_per_char(candidate.key),
            model=candidate.model,
        )
        spend = budget(
            candidate.limits,
            remaining_s=trip.remaining_s(now),
            total_s=trip.total_s(now),
            later=sum(c.off is None for c in trip.waiting),
        )
        return Assignment(candidate, AttemptRole.NORMAL, trip.request.build(fit), spend)

    def _start(self, trip: Trip, assignment: Assignment) -> RunningAttempt:
        run = RunningAttempt(assignment, Holdback(trip.request.kind), self._tools.clock)
        trip.start(run)
        return run

    def _conclude(self, trip: Trip, run: RunningAttempt) -> AttemptRecord:
        trip.note_end(run)
        if run.failure is None:
            return trip.record(run, Verdict(NextStep.DELIVER, committed=trip.committed))
        committed = run.yielded and trip.committed
        final = run.error_class is ErrorClass.CONTENT_POLICY or committed
        trip.stopped = final
        after = NextStep.STOP if final or not trip.waiting else NextStep.FAILOVER
        return trip.record(run, Verdict(after, committed=committed))

    def _offline(self, trip: Trip) -> Offline:
        if trip.remaining_s(self._tools.clock()) <= 0:
            return Offline(OfflineReason.DEADLINE)
        if trip.stopped:
            return Offline(OfflineReason.REJECTED)
        return Offline(OfflineReason.ALL_DOWN)
