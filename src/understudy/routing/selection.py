"""Selects what to do with a candidate: an attempt with its prompt and time limits, or a skip."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from understudy.errors import ErrorClass
from understudy.llm.capabilities import Capabilities
from understudy.llm.messages import ReplyIdentity
from understudy.routing.candidates import Candidate, ScopeKey
from understudy.routing.cooldown import Availability, Cooldown
from understudy.routing.environment import RouterEnvironment
from understudy.routing.fair_queue import FairQueue
from understudy.routing.ledger import start_of_next_day
from understudy.routing.prompt_fitting import Overflow, PromptPlan, build_fitting_prompt
from understudy.routing.records import AttemptRole, SkipReason
from understudy.routing.request import Fit, Prompt, ReplyRequest
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
    """How long to wait in it; the last candidate may as well wait: there is no other."""
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

    def _choose(
        self, candidate: Candidate, availability: Availability, now: float
    ) -> Skip | AttemptRole:
        """Decide whether a candidate is tried now, and as what."""
        skip = self.unfit(candidate)
        if skip is not None:
            return skip
        if availability.hold is not None:
            if not self.forcing:
                return self._cooldown_skip(availability.hold, now)
            return AttemptRole.FORCED
        return AttemptRole.PROBE if availability.probes else AttemptRole.NORMAL

    def _cooldown_skip(self, hold: Cooldown, now: float) -> Skip:
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
        retry: RetryPlan | None,
        time: TimeLeft,
        echoes: tuple[str, ...],
    ) -> AttemptPlan | Skip | None:
        """Plan one attempt; `None` where the time is over. Leases the cooldowns it probes."""
        state, now = self.state, self.env.clock()
        availability = state.board.availability(candidate.scope_keys, now)
        role = retry.role if retry is not None else self._choose(candidate, availability, now)
        if isinstance(role, Skip):
            return role
        known, ratio, omitted = state.book.prompt_facts(candidate.key, candidate.capabilities)
        sees = not self.degrading and self._sees(candidate, known)
        shrink = 1.0 if retry is None else retry.shrink
        fit = Fit(known.n_ctx, candidate.reply_tokens, sees, ratio, shrink, candidate.model)
        prompts = PromptPlan(self.request, candidate, fit, omitted, retry)
        if known.n_ctx is None:
            prompt: Prompt | Overflow = prompts.build()
        else:
            prompt = await build_fitting_prompt(prompts, known.n_ctx, state.book)
            # Meanwhile another request may have become the probe.
            now = self.env.clock()
            availability = state.board.availability(candidate.scope_keys, now)
            if availability.hold is not None and role is AttemptRole.PROBE:
                return self._cooldown_skip(availability.hold, now)
        if isinstance(prompt, Overflow):
            return Skip(SkipReason.CONTEXT)
        spend = self._budget(candidate, role, time, now)
        if spend is None:
            return None
        if availability.probes:
            lease_until = now + spend.first_token_s + _LEASE_MARGIN_S
            state.board.lease(availability.probes, lease_until)
        return AttemptPlan(
            candidate,
            role,
            prompt,
            spend,
            state.queue(candidate, known),
            self.request.queue_key,
            spend.visible_s if spend.is_last else candidate.limits.queue_s,
            availability.probes,
            echoes,
            known.opens_thought is True,
        )

    def _budget(
        self, candidate: Candidate, role: AttemptRole, time: TimeLeft, now: float
    ) -> Budget | None:
        """Return what the attempt may spend, `None` where nothing is left."""
        remaining_s = time.remaining_s(now)
        if remaining_s <= 0:
            return None
        return budget(
            candidate.limits,
            remaining_s=remaining_s,
            total_s=time.total_s(now),
            later=time.usable_later(now),
            probe=role is AttemptRole.PROBE,
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
