"""What the router remembers from request to request, and from one configuration to the next."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from understudy.clock import MINUTE_S
from understudy.errors import ErrorClass, HoldScope
from understudy.llm.capabilities import CapabilityBook, ModelKey
from understudy.routing.candidates import Candidate
from understudy.routing.cooldown import CooldownBoard, State
from understudy.routing.failure_policy import RULES
from understudy.routing.fair_queue import FairQueue
from understudy.routing.monitoring import HealthMonitor
from understudy.routing.records import SkipReason

_RETRY_FLOOR = 5
_RETRIES_PER_REQUEST = 0.1
_FORCED_EVERY_S = 5.0
_WAITING_PER_PLACE = 16
"""With replies of three seconds the last one's turn still comes within the usual deadline."""


class RetryBudget:
    """Keeps a process whose servers are all down from hammering them."""

    def __init__(self) -> None:
        self._requests: deque[list[int]] = deque(maxlen=MINUTE_S)
        """[second, how many began in it]."""
        self._retries: deque[float] = deque()
        self._forced_at = float("-inf")

    def request(self, now: float) -> None:
        second = int(now)
        if self._requests and self._requests[-1][0] == second:
            self._requests[-1][1] += 1
        else:
            self._requests.append([second, 1])

    def may_retry(self, now: float) -> bool:
        """Take one retry with backoff from the budget, if it holds any."""
        while self._retries and now - self._retries[0] > MINUTE_S:
            self._retries.popleft()
        began = sum(n for second, n in self._requests if now - second <= MINUTE_S)
        if len(self._retries) >= max(_RETRY_FLOOR, began * _RETRIES_PER_REQUEST):
            return False
        self._retries.append(now)
        return True

    def may_force(self, now: float) -> bool:
        """Acquire the one forced pass of these five seconds, if it is still free."""
        if now - self._forced_at < _FORCED_EVERY_S:
            return False
        self._forced_at = now
        return True


@dataclass(frozen=True, slots=True)
class RouterState:
    """Carried over when the configuration changes: cooldowns by scope, lessons by model."""

    board: CooldownBoard
    book: CapabilityBook
    pacing: RetryBudget
    health: HealthMonitor
    queues: dict[tuple[str, str], FairQueue] = field(default_factory=dict)
    running: Counter[ModelKey] = field(default_factory=Counter)
    """Attempts under way."""

    @classmethod
    def fresh(cls, clock: Callable[[], float], random: Random) -> "RouterState":
        board, book = CooldownBoard(random), CapabilityBook(clock)
        return cls(board, book, RetryBudget(), HealthMonitor(board, book, clock))

    def forgive(self) -> None:
        """A new configuration may have fixed what only the operator can: keys, credit, names."""
        for hold in self.board.holds(0.0):
            if RULES[hold.cause].alerts:
                self.board.reset(hold.key)

    async def aclose(self) -> None:
        """Stop looking after servers that are down."""
        await self.health.aclose()

    def queue(self, candidate: Candidate) -> FairQueue | None:
        """The line before the candidate's server; `None` where it takes any number at once."""
        known = self.book.of(candidate.key, candidate.capabilities)
        size = candidate.max_concurrency or known.slots or (1 if candidate.local else None)
        if size is None:
            return None
        length = candidate.queue_length or size * _WAITING_PER_PLACE
        place = (candidate.provider, candidate.endpoint)
        queue = self.queues.setdefault(place, FairQueue(size, length))
        queue.size, queue.length = size, length
        return queue


@dataclass(frozen=True, slots=True)
class CandidateStatus:
    provider: str
    model: str
    label: str
    engine: str
    state: State
    """`closed` is usable, `half_open` waits for one attempt to find out."""
    off: SkipReason | None = None
    scope: HoldScope | None = None
    """What is left out: the endpoint, the key or this model alone."""
    cause: ErrorClass | None = None
    until: float | None = None
    """Wall clock."""
    running: int = 0
    waiting: int = 0
    """Requests in line before its server."""


def candidate_statuses(
    candidates: Iterable[Candidate], memory: RouterState, now: float, wall: float
) -> tuple[CandidateStatus, ...]:
    return tuple(_standing(candidate, memory, now, wall) for candidate in candidates)


def _standing(
    candidate: Candidate, memory: RouterState, now: float, wall: float
) -> CandidateStatus:
    availability = memory.board.availability(candidate.scope_keys, now, asking=False)
    hold, state = availability.hold, State.HALF_OPEN if availability.probes else State.CLOSED
    queue = memory.queues.get((candidate.provider, candidate.endpoint))
    return CandidateStatus(
        provider=candidate.provider,
        model=candidate.model,
        label=candidate.label,
        engine=candidate.engine,
        state=state if hold is None else State.OPEN,
        off=candidate.off,
        scope=None if hold is None else hold.key.scope,
        cause=None if hold is None else hold.cause,
        until=None if hold is None else wall + hold.until - now,
        running=memory.running.get(candidate.key, 0),
        waiting=0 if queue is None else queue.waiting,
    )
