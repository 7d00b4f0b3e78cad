"""Selects what to do with a candidate: an attempt with its prompt and time limits, or a skip."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from understudy.errors import ErrorClass
from understudy.llm.capabilities import Capabilities, ModelFacts
from understudy.llm.messages import ReplyIdentity
from understudy.routing.candidate_queue import CandidateQueue
from understudy.routing.candidates import Candidate, ScopeKey
from understudy.routing.cooldown import AVAILABLE, Availability, Cooldown
from understudy.routing.environment import RouterEnvironment
from understudy.routing.fair_queue import FairQueue
from understudy.routing.ledger import start_of_next_day
from understudy.routing.prompt_fitting import Overflow, PromptPlan
from understudy.routing.records import AttemptRecord, AttemptRole, OfflineReason, SkipReason
from understudy.routing.request import Fit, Prompt, ReplyRequest
from understudy.routing.retries import RetryPlan
from understudy.routing.router_state import RouterState
from understudy.routing.timeouts import Budget, budget

_LEASE_MARGIN_S = 5.0
_BUSY_RETRY_S = 5.0
"""When to come back after all queues were full."""
_OVER_BUDGET = SkipReason.BUDGET
# Read often: looking up the member of an enum takes longer than a call.
_NORMAL, _PROBE = AttemptRole.NORMAL, AttemptRole.PROBE


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
    probes: tuple[ScopeKey, ...] = ()
    """Cooldowns that this attempt has the lease to probe."""
    echoes: tuple[str, ...] = ()
    """Texts that are no reply when they come back unchanged."""
    in_thought: bool = False
    """The chat template opens a thought, so that only its end comes."""


class AttemptOwner(Protocol):
    """The request that an attempt belongs to."""

    def committed(self) -> bool:
        """Whether text of this reply is visible that another attempt would contradict."""
        ...

    def begin_output(self, candidate: Candidate, identity: ReplyIdentity) -> None:
        """Called before an attempt's first output goes to the sink."""
        ...


class PlannedRequest(Protocol):
    """The request that an attempt is planned for."""

    request: ReplyRequest
    queue: CandidateQueue
    started: float

    def remaining_s(self, now: float) -> float:
        """Return the seconds until visible text must have come."""
        ...

    def total_s(self, now: float) -> float:
        """Return the seconds until the request must have ended."""
        ...

    def echoes(self) -> tuple[str, ...]:
        """Return the texts that are no reply to it."""
        ...


class _Facts(msgspec.Struct, eq=False):
    """What is known of a candidate, until `model` changes or `until` has come."""

    model: ModelFacts
    version: int
    until: float
    known: Capabilities
    sees: bool
    """Whether images may be sent to it."""
    omitted: tuple[str, ...]
    """Fields that its server rejects."""
    queue: FairQueue | None
    places: tuple[int, int]
    """The size and the length of the queue, as far as this candidate's server is known."""
    first_budgets: dict[int, Budget]
    """Of the first attempt of a request, by the number of usable candidates after it."""


class Selection:
    """Plans attempts for the requests of one router."""

    def __init__(self, state: RouterState, env: RouterEnvironment) -> None:
        self.state = state
        self.env = env
        self._facts: dict[Candidate, _Facts] = {}

    def hold(self, candidate: Candidate, now: float) -> Cooldown | None:
        return self.state.board.availability(candidate.scope_keys, now).hold

    def retry_at(
        self,
        reason: OfflineReason,
        candidates: Iterable[Candidate],
        records: Iterable[AttemptRecord],
        now: float,
    ) -> float | None:
        """Wall clock at which a request that no candidate answered may succeed, where one is
        known."""
        wall = self.env.wall()
        if reason is OfflineReason.BUSY:
            return wall + _BUSY_RETRY_S
        if reason is OfflineReason.DEADLINE:
            # A candidate that there was no time for may be free, whatever holds the others.
            return None
        holds = [self.hold(c, now) for c in candidates if not c.off]
        times = [wall + hold.until - now for hold in holds if hold is not None]
        times += [r.held_until for r in records if r.skip_reason is _OVER_BUDGET and r.held_until]
        return min(times, default=None)

    def plan(
        self,
        candidate: Candidate,
        retry: RetryPlan | None,
        planned: PlannedRequest,
        now: float,
        prompt: Prompt | Overflow | None = None,
    ) -> AttemptPlan | PromptPlan | Skip:
        """Plan one attempt; leases the cooldowns it probes.

        Returns the plan of the prompt where the server may have to count it: `fit_prompt` makes
        the `prompt` to plan again with.
        """
        request, board, available, role = planned.request, self.state.board, AVAILABLE, _NORMAL
        if board.open or retry is not None or candidate.off is not None or not _suits_any(request):
            available = board.availability(candidate.scope_keys, now)
            chosen = self._role(candidate, planned, available, now) if retry is None else retry.role
            if isinstance(chosen, Skip):
                return chosen
            role = chosen
        facts = self._facts.get(candidate)
        if facts is None or facts.version != facts.model.version or now >= facts.until:
            facts = self._facts[candidate] = self._facts_of(candidate, now)
        built = prompt or self._prompt(candidate, facts, retry, planned)
        if not isinstance(built, Prompt):
            return built if isinstance(built, PromptPlan) else Skip(SkipReason.CONTEXT)
        spend = self._budget(candidate, role, facts, planned, now)
        queue = facts.queue
        if queue is not None:
            # Another model of the same server may be known to have more places, or fewer.
            queue.size, queue.length = facts.places
        if available.probes:
            board.lease(available.probes, now + spend.first_token_s + _LEASE_MARGIN_S)
        return AttemptPlan(
            candidate,
            role,
            built,
            spend,
            queue,
            available.probes,
            planned.echoes() if request.last_user_text or request.previous_reply else (),
            facts.known.opens_thought is True,
        )

    def _later(self, planned: PlannedRequest, now: float) -> int:
        """Count the candidates after this one that could be tried now."""
        queue, board = planned.queue, self.state.board
        if not board.open and _suits_any(planned.request):
            return [c.off for c in queue.waiting].count(None)
        usable = sum(
            self._unfit(c, planned) is None and (queue.forcing or self.hold(c, now) is None)
            for c in queue.waiting
        )
        if usable or queue.degrading or not queue.degrades:
            return usable
        return sum(self.hold(c, now) is None for c in queue.without_vision)

    def _role(
        self, candidate: Candidate, planned: PlannedRequest, available: Availability, now: float
    ) -> AttemptRole | Skip:
        """Decide whether a candidate is tried now, and as what."""
        skip = self._unfit(candidate, planned)
        if skip is not None:
            return skip
        hold = available.hold
        if hold is None:
            return _PROBE if available.probes else _NORMAL
        if planned.queue.forcing:
            return AttemptRole.FORCED
        return Skip(SkipReason.COOLDOWN, hold.cause, self.env.wall() + hold.until - now)

    def _unfit(self, candidate: Candidate, planned: PlannedRequest) -> Skip | None:
        """Return why a candidate cannot take this request, cooldowns apart."""
        request = planned.request
        if candidate.off is not None:
            return Skip(candidate.off)
        may_spend = request.may_spend is None or request.may_spend(request.origin)
        if not may_spend and not self.env.prices.is_free(
            candidate.provider, candidate.engine, candidate.model
        ):
            return Skip(SkipReason.BUDGET, held_until=start_of_next_day(self.env.wall()))
        known = self.state.book.of(candidate.key, candidate.capabilities)
        if request.tools and known.tools is False:
            return Skip(SkipReason.CAPABILITY)
        if request.raw_completion and not (
            candidate.client.supports_completions and known.supports_completions is not False
        ):
            return Skip(SkipReason.CAPABILITY)
        if request.images and not planned.queue.degrading and not _sees(candidate, known):
            return Skip(SkipReason.CAPABILITY)
        return None

    def _facts_of(self, candidate: Candidate, now: float) -> _Facts:
        model = self.state.book.model(candidate.key)
        known = candidate.capabilities.over(model.known(now))
        queue = self.state.queue(candidate, known)
        return _Facts(
            model,
            model.version,
            model.constant_until(now),
            known,
            _sees(candidate, known),
            model.omissions(now),
            queue,
            (0, 0) if queue is None else (queue.size, queue.length),
            {},
        )

    def _prompt(
        self,
        candidate: Candidate,
        facts: _Facts,
        retry: RetryPlan | None,
        planned: PlannedRequest,
    ) -> Prompt | PromptPlan:
        request, n_ctx = planned.request, facts.known.n_ctx
        fit = Fit(
            n_ctx,
            candidate.reply_tokens,
            facts.sees and not planned.queue.degrading,
            facts.model.tokens_per_char,
            1.0 if retry is None else retry.shrink,
            candidate.model,
        )
        if n_ctx is None and retry is None and not (facts.omitted or request.images):
            return request.build(fit)
        prompts = PromptPlan(request, candidate, fit, facts.omitted, retry)
        return prompts.build_certain() or prompts

    def _budget(
        self,
        candidate: Candidate,
        role: AttemptRole,
        facts: _Facts,
        planned: PlannedRequest,
        now: float,
    ) -> Budget:
        queue = planned.queue
        later = self._later(planned, now) if queue.waiting or queue.without_vision else 0
        probe = role is _PROBE
        is_first = now == planned.started and not probe
        if is_first and later in facts.first_budgets:
            return facts.first_budgets[later]
        spend = budget(
            candidate.limits,
            remaining_s=planned.remaining_s(now),
            total_s=planned.total_s(now),
            later=later,
            probe=probe,
        )
        if is_first:
            facts.first_budgets[later] = spend
        return spend


def _suits_any(request: ReplyRequest) -> bool:
    """Whether any candidate that is on can take this request, cooldowns apart."""
    if request.tools or request.raw_completion or request.images:
        return False
    return request.may_spend is None or request.may_spend(request.origin)


def _sees(candidate: Candidate, known: Capabilities) -> bool:
    """Whether images may be sent to it."""
    return not candidate.silently_drops_images if known.vision is None else known.vision
