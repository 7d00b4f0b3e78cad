"""ModelRouter: one chat request in, one reply out, by walking the candidates in order.

The only place in the program that retries, skips or falls back.
"""

import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from understudy.llm.pricing import PriceBook
from understudy.routing.attempt import Assignment, Attempt
from understudy.routing.candidates import Candidate
from understudy.routing.evaluation import AttemptEvaluator
from understudy.routing.failure_policy import offline_reason
from understudy.routing.recorder import Offline, Recorder, Scrub
from understudy.routing.records import (
    AttemptObserver,
    AttemptRecord,
    OfflineReason,
    SkipReason,
)
from understudy.routing.request import (
    AttemptEnded,
    ReplyRequest,
    RouterEvent,
)
from understudy.routing.request_run import RequestRun
from understudy.routing.router_state import CandidateStatus, RouterState, candidate_statuses
from understudy.routing.selection import CandidateSelector
from understudy.routing.timeouts import Deadline

_CROWD_S = 5.0
"""How soon it is worth coming back when too many wait already."""


@dataclass(frozen=True, slots=True)
class RouterEnvironment:
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
    keep_partial_chars: int = 600
    """A part that breaks off after a whole sentence stays when it is this long; 0: never."""
    config_rev: str = ""


class ModelRouter:
    """Immutable in its candidates and rules: a changed configuration makes a new router."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        rules: RouterRules | None = None,
        *,
        memory: RouterState | None = None,
        instruments: RouterEnvironment | None = None,
    ) -> None:
        self.candidates = tuple(candidates)
        self.rules = rules or RouterRules()
        tools = instruments or RouterEnvironment()
        self.memory = memory or RouterState.fresh(tools.clock, tools.random)
        """Hand it to the router of a changed configuration, and cooldowns carry over."""
        self._tools = tools
        self._chooser = CandidateSelector(
            self.memory, tools.prices, tools.clock, tools.wall, tools.random
        )
        self._judge = AttemptEvaluator(
            self.memory,
            tools.clock,
            tools.wall,
            stop_on_content_policy=self.rules.stop_on_content_policy,
            keep_partial_chars=self.rules.keep_partial_chars,
        )

    async def reply(self, request: ReplyRequest) -> AsyncGenerator[RouterEvent, None]:
        """Yield one reply; `ReplyEnded` is always last, unless the caller closes or cancels.

        Wrap it in `contextlib.aclosing`: closing it closes the upstream connection at once, and
        still leaves exactly one record of everything that was started.
        """
        trip = self._set_out(request)
        try:
            while (step := await self._chooser.next(trip)) is not None:
                if isinstance(step, AttemptRecord):
                    yield AttemptEnded(step)
                    continue
                run = self._start(trip, step)
                try:
                    async with contextlib.aclosing(run.events()) as outputs:
                        async for output in outputs:
                            if not run.yielded:
                                run.yielded = True
                                for event in trip.announce(run):
                                    yield event
                            yield output
                finally:
                    self.memory.running[step.candidate.key] -= 1
                yield AttemptEnded(trip.record(run, self._judge.judge(trip, run)))
            yield trip.end(None if trip.winner is not None else self._offline(trip))
        finally:
            trip.abandon(self._judge.cancelled)

    def status(self) -> tuple[CandidateStatus, ...]:
        """How each candidate stands right now, in order."""
        return candidate_statuses(
            self.candidates, self.memory, self._tools.clock(), self._tools.wall()
        )

    def reset(self, provider: str | None = None) -> None:
        """End the cooldowns of one provider, or of all: the operator says that it is well."""
        for candidate in self.candidates:
            if provider in (None, candidate.provider):
                for key in candidate.scope_keys:
                    self.memory.board.reset(key)

    def _set_out(self, request: ReplyRequest) -> RequestRun:
        now = self._tools.clock()
        self.memory.pacing.request(now)
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
        return RequestRun(request, deque(candidates), recorder, self.rules.deadline, now)

    def _order(self, request: ReplyRequest) -> Sequence[Candidate]:
        if request.order is None:
            return self.candidates
        wanted = (c for name in request.order for c in self.candidates if c.answers_to(name))
        return tuple(dict.fromkeys(wanted))

    def _start(self, trip: RequestRun, assignment: Assignment) -> Attempt:
        run = Attempt(assignment, trip.request, lambda: trip.committed, self._tools.clock)
        trip.start(run)
        self.memory.running[assignment.candidate.key] += 1
        return run

    def _offline(self, trip: RequestRun) -> Offline:
        now = self._tools.clock()
        over = trip.total_s(now) <= 0
        reason = offline_reason(
            trip.records,
            out_of_time=over or trip.remaining_s(now) <= 0,
            # The end of the time stops a reply too, and that is nobody's fault.
            at_fault=trip.stopped and not over,
        )
        if reason is OfflineReason.BUSY:
            return Offline(reason, self._tools.wall() + _CROWD_S)
        if reason is OfflineReason.DEADLINE:
            # Somebody may be free whom there was no time to ask, whoever else rests.
            return Offline(reason, None)
        return Offline(reason, self._soonest(trip, now))

    def _soonest(self, trip: RequestRun, now: float) -> float | None:
        """Wall clock of the soonest recovery; `None` where nothing is known to hold them back."""
        gates = (
            self.memory.board.gate(c.scope_keys, now)
            for c in self._order(trip.request)
            if not c.off
        )
        wall = self._tools.wall()
        holds = [wall + gate.hold.until - now for gate in gates if gate.hold is not None]
        holds += [
            a.held_until
            for a in trip.records
            if a.skip_reason is SkipReason.BUDGET and a.held_until is not None
        ]
        return min(holds, default=None)
