"""Selects what to do with a candidate: an attempt with its prompt and time limits, or a skip."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from understudy.errors import ErrorClass
from understudy.llm.capabilities import Capabilities
from understudy.llm.messages import ReplyIdentity
from understudy.routing.candidates import Candidate, ScopeKey
from understudy.routing.cooldown import Cooldown
from understudy.routing.environment import RouterEnvironment
from understudy.routing.fair_queue import FairQueue
from understudy.routing.ledger import start_of_next_day
from understudy.routing.prompt_fitting import Overflow, build_fitting_prompt
from understudy.routing.records import AttemptRole, SkipReason
from understudy.routing.request import Prompt, ReplyRequest
from understudy.routing.retries import RetryPlan
from understudy.routing.router_state import RouterState
from understudy.routing.timeouts import Budget, budget

_LEASE_MARGIN_S = 5.0


class Skip(msgspec.Struct, frozen=True):
    """Why a candidate was skipped."""

    reason: SkipReason
    error_class: ErrorClass | None = None
    """The cause of its cooldown."""
    held_until: float | None = None
    """Wall clock."""


class AttemptPlan(msgspec.Struct, frozen=True):
    """What one attempt is to do."""

    candidate: Candidate
    role: AttemptRole
    prompt: Prompt
    budget: Budget
    queue: FairQueue | None = None
    """The queue of a server that works on only so many requests at once."""
    queue_key: str = ""
    queue_s: float = 0.0
    """How long to wait in it."""
    is_last: bool = False
    """No usable candidate comes after it, so that it may wait for a model to be loaded."""
    probes: tuple[ScopeKey, ...] = ()
    """Cooldowns that this attempt has the lease to probe."""
    echoes: tuple[str, ...] = ()
    """Texts that are no reply when they come back unchanged."""
    in_thought: bool = False
    """The chat template opens a thought, so that only its end comes."""


class AttemptOwner(Protocol):
    """The request that an attempt belongs to."""

    @property
    def committed(self) -> bool:
        """Whether text of this reply is visible that another attempt would contradict."""
        ...

    def begin_output(self, candidate: Candidate, identity: ReplyIdentity) -> None:
        """Called before an attempt's first output goes to the sink."""
        ...


class TimeLeft(Protocol):
    """What a request may still spend."""

    def remaining_s(self, now: float) -> float:
        """Return the seconds until visible text must have come."""
        ...

    def total_s(self, now: float) -> float:
        """Return the seconds until the request must have ended."""
        ...

    def usable_later(self, now: float) -> int:
        """Return how many usable candidates come after the one being planned."""
        ...


class Selection(msgspec.Struct, frozen=True):
    """The view of one request that candidates are selected by."""

    request: ReplyRequest
    state: RouterState
    env: RouterEnvironment
    forcing: bool = False
    """Candidates in a cooldown for a transient cause are tried too."""
    degrading: bool = False
    """Images are left out for candidates without vision."""

    def hold(self, candidate: Candidate, now: float) -> Cooldown | None:
        return self.state.board.availability(candidate.scope_keys, now).hold

    def soonest(self, candidates: Iterable[Candidate], now: float) -> float | None:
        """Wall clock of the soonest end of a cooldown; `None` where none is known."""
        holds = [self.hold(c, now) for c in candidates if not c.off]
        times = [self.env.wall() + hold.until - now for hold in holds if hold is not None]
        return min(times, default=None)

    def unfit(self, candidate: Candidate) -> Skip | None:
        """Return why a candidate cannot take this request, cooldowns apart."""
        if candidate.off is not None:
            return Skip(candidate.off)
        request = self.request
        if not request.may_spend(request.origin) and not self.env.prices.is_free(
            candidate.provider, candidate.engine, candidate.model
        ):
            until = start_of_next_day(self.env.wall())
            return Skip(SkipReason.BUDGET, held_until=until)
        special = request.tools or request.raw_completion or request.images
        if special and not self._capable(candidate):
            return Skip(SkipReason.CAPABILITY)
        return None

    def choose(self, candidate: Candidate, now: float) -> Skip | AttemptRole:
        """Decide whether a candidate is tried now, and as what."""
        skip = self.unfit(candidate)
        if skip is not None:
            return skip
        availability = self.state.board.availability(candidate.scope_keys, now)
        if availability.hold is not None:
            if not self.forcing:
                return self.cooldown_skip(availability.hold, now)
            return AttemptRole.FORCED
        return AttemptRole.PROBE if availability.probes else AttemptRole.NORMAL

    def cooldown_skip(self, hold: Cooldown, now: float) -> Skip:
        until = self.env.wall() + hold.until - now
        return Skip(SkipReason.COOLDOWN, hold.cause, until)

    def _sees(self, candidate: Candidate, known: Capabilities) -> bool:
        """Whether images may be sent to it."""
        vision = known.vision
        return not candidate.silently_drops_images if vision is None else vision

    def usable(self, candidates: Iterable[Candidate], now: float) -> int:
        """Count the candidates that could be tried now."""
        return sum(
            self.unfit(c) is None and (self.forcing or self.hold(c, now) is None)
            for c in candidates
        )

    async def plan(
        self,
        candidate: Candidate,
        role: AttemptRole,
        retry: RetryPlan | None,
        time: TimeLeft,
        echoes: tuple[str, ...],
    ) -> AttemptPlan | Skip | None:
        """Plan one attempt; `None` where the time is over. Leases the cooldowns it probes."""
        state = self.state
        known = state.book.of(candidate.key, candidate.capabilities)
        sees = not self.degrading and self._sees(candidate, known)
        prompt = await build_fitting_prompt(
            self.request, candidate, state.book, known, sees=sees, retry=retry
        )
        if isinstance(prompt, Overflow):
            return Skip(SkipReason.CONTEXT)
        now = self.env.clock()
        remaining_s = time.remaining_s(now)
        if remaining_s <= 0:
            return None
        # Another request may have become the probe while the prompt was counted.
        availability = state.board.availability(candidate.scope_keys, now)
        probe = role is AttemptRole.PROBE
        if availability.hold is not None and probe:
            return self.cooldown_skip(availability.hold, now)
        later = time.usable_later(now)
        spend = budget(
            candidate.limits,
            remaining_s=remaining_s,
            total_s=time.total_s(now),
            later=later,
            probe=probe,
        )
        if availability.probes:
            lease_until = now + spend.first_token_s + _LEASE_MARGIN_S
            state.board.lease(availability.probes, lease_until)
        # The last candidate may as well wait in its queue: there is no other.
        alone = later == 0 and not candidate.limits.strict
        return AttemptPlan(
            candidate,
            role,
            prompt,
            spend,
            state.queue(candidate, known),
            self.request.queue_key,
            spend.visible_s if alone else candidate.limits.queue_s,
            alone,
            availability.probes,
            echoes,
            known.opens_thought is True,
        )

    def _capable(self, candidate: Candidate) -> bool:
        request = self.request
        known = self.state.book.of(candidate.key, candidate.capabilities)
        if request.tools and known.tools is False:
            return False
        if request.raw_completion and not (
            candidate.client.supports_completions and known.supports_completions is not False
        ):
            return False
        return not request.images or self.degrading or self._sees(candidate, known)
