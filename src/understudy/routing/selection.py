"""Which candidate is asked next, in which role, with which prompt and how much time."""

import asyncio
from collections.abc import Callable
from random import Random

from understudy.llm.pricing import PriceBook
from understudy.routing.attempt import Assignment
from understudy.routing.candidates import Candidate
from understudy.routing.cooldown import Cooldown
from understudy.routing.failure_policy import RULES, RetryPlan, backoff_s
from understudy.routing.ledger import start_of_next_day
from understudy.routing.prompt_fitting import Overflow, fitting_prompt
from understudy.routing.recorder import Skip
from understudy.routing.records import AttemptRecord, AttemptRole, SkipReason
from understudy.routing.request_run import RequestRun
from understudy.routing.router_state import RouterState
from understudy.routing.timeouts import budget

_WORTH_WAITING_S = 2.0
_LEASE_MARGIN_S = 5.0


class CandidateSelector:
    """Walks a trip's candidates in order; what is left out is recorded and may get a later turn."""

    def __init__(
        self,
        memory: RouterState,
        prices: PriceBook,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Random,
    ) -> None:
        self._memory = memory
        self._prices = prices
        self._clock = clock
        self._wall = wall
        self._random = random

    async def next(self, trip: RequestRun) -> Assignment | AttemptRecord | None:
        """An attempt to make, the record of a candidate left out, or `None` at the end."""
        while not trip.decided and trip.remaining_s(self._clock()) > 0 and trip.attempts_left:
            step = None
            if trip.repair is not None:
                step = await self._repaired(trip, trip.repair)
            elif trip.waiting:
                step = await self._turn(trip, trip.waiting.popleft())
            elif not await self._another_pass(trip):
                return None
            if step is not None:
                return step
        return None

    async def _turn(
        self, trip: RequestRun, candidate: Candidate
    ) -> Assignment | AttemptRecord | None:
        now = self._clock()
        skip = self._unfit(trip, candidate)
        if skip is not None:
            if skip.reason is SkipReason.CAPABILITY:
                trip.set_aside_for_images.append(candidate)
            return trip.skip(candidate, skip)
        gate = self._memory.board.gate(candidate.scope_keys, now)
        if gate.hold is not None and not trip.forcing:
            return self._rest(trip, candidate, gate.hold, now)
        role = AttemptRole.PROBE if gate.probes else AttemptRole.NORMAL
        if trip.forcing and gate.hold is not None:
            role = AttemptRole.FORCED
        return await self._assigned(trip, candidate, role)

    def _unfit(self, trip: RequestRun, candidate: Candidate) -> Skip | None:
        if candidate.off is not None:
            return Skip(candidate.off)
        free = self._prices.is_free(candidate.provider, candidate.engine, candidate.model)
        if not free and not trip.request.may_spend(trip.request.origin):
            return Skip(SkipReason.BUDGET, held_until=start_of_next_day(self._wall()))
        if not self._capable(trip, candidate):
            return Skip(SkipReason.CAPABILITY)
        return None

    def _capable(self, trip: RequestRun, candidate: Candidate) -> bool:
        known = self._memory.book.of(candidate.key, candidate.capabilities)
        if trip.request.tools and known.tools is False:
            return False
        if trip.request.raw_completion and not (
            candidate.client.supports_completions and known.supports_completions is not False
        ):
            return False
        return not trip.request.images or trip.degrading or self._sees(candidate)

    def _sees(self, candidate: Candidate) -> bool:
        vision = self._memory.book.of(candidate.key, candidate.capabilities).vision
        return not candidate.silently_drops_images if vision is None else vision

    def _rest(
        self, trip: RequestRun, candidate: Candidate, hold: Cooldown, now: float
    ) -> AttemptRecord | None:
        if candidate in trip.resting or trip.waited:
            return None
        trip.resting.append(candidate)
        return trip.skip(
            candidate, Skip(SkipReason.COOLDOWN, hold.cause, self._wall() + hold.until - now)
        )

    async def _assigned(
        self,
        trip: RequestRun,
        candidate: Candidate,
        role: AttemptRole,
        repair: RetryPlan | None = None,
    ) -> Assignment | AttemptRecord | None:
        """`None` where the time went by, or another request became the probe, on the way here."""
        book = self._memory.book
        sees = self._sees(candidate) and not trip.degrading
        prompt = await fitting_prompt(trip.request, candidate, book, sees=sees, repair=repair)
        if isinstance(prompt, Overflow):
            return trip.skip(candidate, Skip(SkipReason.CONTEXT))
        now = self._clock()
        gate = self._memory.board.gate(candidate.scope_keys, now)
        if trip.remaining_s(now) <= 0:
            return None
        if gate.hold is not None and role is AttemptRole.PROBE:
            return self._rest(trip, candidate, gate.hold, now)
        later = self._later(trip)
        spend = budget(
            candidate.limits,
            remaining_s=trip.remaining_s(now),
            total_s=trip.total_s(now),
            later=later,
            probe=role is AttemptRole.PROBE,
        )
        self._memory.board.lease(gate.probes, now + spend.first_token_s + _LEASE_MARGIN_S)
        # The last one may as well wait in line: there is nowhere else to go.
        alone = later == 0 and not candidate.limits.strict
        return Assignment(
            candidate,
            AttemptRole.RESTART if trip.restarting and repair is None else role,
            prompt,
            spend,
            queue=self._memory.queue(candidate),
            queue_key=trip.request.queue_key,
            queue_s=spend.visible_s if alone else candidate.limits.queue_s,
            probes=gate.probes,
            is_last=alone,
            echoes=trip.echoes,
        )

    def _later(self, trip: RequestRun) -> int:
        """How many usable candidates come after the one being chosen."""
        now = self._clock()
        usable = sum(
            self._unfit(trip, c) is None
            and (trip.forcing or self._memory.board.gate(c.scope_keys, now).hold is None)
            for c in trip.waiting
        )
        if usable or trip.degrading or not trip.may_degrade:
            return usable
        return sum(
            self._memory.board.gate(c.scope_keys, now).hold is None
            for c in trip.set_aside_for_images
        )

    async def _repaired(
        self, trip: RequestRun, repair: RetryPlan
    ) -> Assignment | AttemptRecord | None:
        trip.repair = None
        await asyncio.sleep(repair.wait_s)
        return await self._assigned(trip, repair.candidate, repair.role, repair)

    async def _another_pass(self, trip: RequestRun) -> bool:
        """Find someone else to ask once the order is through; False when there is nobody."""
        if trip.set_aside_for_images and trip.may_degrade and not trip.degrading:
            trip.degrading = True
            trip.waiting.extend(trip.set_aside_for_images)
            return True
        if trip.resting and not trip.waited:
            return await self._waited(trip)
        if trip.resting and not trip.forcing:
            return self._forced(trip)
        return self._backoff(trip)

    async def _waited(self, trip: RequestRun) -> bool:
        """Wait for the soonest cooldown if that is near."""
        trip.waited = True
        now = self._clock()
        holds = [self._memory.board.gate(c.scope_keys, now).hold for c in trip.resting]
        wait_s = min((h.until - now if h else 0.0) for h in holds)
        if wait_s <= min(_WORTH_WAITING_S, trip.remaining_s(now)):
            await asyncio.sleep(wait_s)
            self._wake(trip, lambda hold: hold is None)
        return True

    def _forced(self, trip: RequestRun) -> bool:
        """Ask those who rest for something that may have passed, although they rest."""
        trip.forcing = True
        now = self._clock()
        self._wake(trip, lambda hold: hold is None or RULES[hold.cause].transient)
        if trip.waiting and not self._memory.pacing.may_force(now):
            trip.waiting.clear()
        return True

    def _wake(self, trip: RequestRun, ready: Callable[[Cooldown | None], bool]) -> None:
        now = self._clock()
        awake = [c for c in trip.resting if ready(self._memory.board.gate(c.scope_keys, now).hold)]
        trip.resting = [c for c in trip.resting if c not in awake]
        trip.waiting.extend(awake)

    def _backoff(self, trip: RequestRun) -> bool:
        """Ask the last one that failed for a passing reason once more, after a short wait."""
        if trip.restarting:
            return False
        now = self._clock()
        for run in reversed(trip.failures):
            candidate = run.assignment.candidate
            if run.failure is None or not trip.may_repair(candidate):
                continue
            wait = backoff_s(
                run.failure, dice=self._random.random(), remaining_s=trip.remaining_s(now)
            )
            if wait is not None and self._memory.pacing.may_retry(now):
                trip.plan_repair(RetryPlan(candidate, AttemptRole.BACKOFF_RETRY, wait_s=wait))
                return True
        return False
