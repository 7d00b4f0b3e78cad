"""State that routers share across requests and reloads of the configuration."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from understudy.clock import MINUTE_S
from understudy.errors import ErrorClass, HoldScope
from understudy.llm.capabilities import Capabilities, CapabilityBook, ModelKey
from understudy.routing.candidates import Candidate
from understudy.routing.cooldown import CooldownBoard, State
from understudy.routing.failure_policy import RULES
from understudy.routing.fair_queue import FairQueue
from understudy.routing.monitoring import HealthMonitor
from understudy.routing.records import SkipReason
from understudy.routing.timeouts import AttemptTimers

_RETRY_FLOOR = 5
_RETRIES_PER_REQUEST = 0.1
_FORCED_EVERY_S = 5.0
_WAITING_PER_PLACE = 16
"""Queue length per slot: with replies of 3 s the last one starts within the usual deadline."""


class RetryBudget:
    """Limits retries and forced passes while all servers are down."""

    def __init__(self) -> None:
        self.second = -1
        """The current one, of the monotonic clock."""
        self.in_second = 0
        """Requests that began in it."""
        self._earlier: deque[tuple[int, int]] = deque(maxlen=MINUTE_S)
        """(second, requests that began in it)."""
        self._retries: deque[float] = deque()
        self._forced_at = float("-inf")

    def begin_second(self, now: float) -> None:
        """Note the first request of a second; the others only add to `in_second`."""
        self._earlier.append((self.second, self.in_second))
        self.second, self.in_second = int(now), 1

    def may_retry(self, now: float) -> bool:
        """Spend one backoff retry, if the budget has one."""
        while self._retries and now - self._retries[0] > MINUTE_S:
            self._retries.popleft()
        seconds = ((self.second, self.in_second), *self._earlier)
        began = sum(n for second, n in seconds if now - second <= MINUTE_S)
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
    """Kept when the configuration changes: cooldowns by scope, learned facts by model."""

    board: CooldownBoard
    book: CapabilityBook
    pacing: RetryBudget
    health: HealthMonitor
    queues: dict[tuple[str, str], FairQueue] = field(default_factory=dict)
    timers: AttemptTimers = field(default_factory=AttemptTimers)
    attempts: dict[object, ModelKey] = field(default_factory=dict)
    """Those that are running, with their models."""

    def running(self) -> Counter[ModelKey]:
        """Count the running attempts of each model."""
        return Counter(self.attempts.values())

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
        """Stop polling servers that are down."""
        await self.health.aclose()

    def queue(self, candidate: Candidate, known: Capabilities) -> FairQueue | None:
        """The queue of the candidate's server; `None` where its concurrency is unlimited."""
        size = candidate.max_concurrency or known.slots or (1 if candidate.local else None)
        if size is None:
            return None
        length = candidate.queue_length or size * _WAITING_PER_PLACE
        place = (candidate.provider, candidate.endpoint)
        queue = self.queues.get(place)
        if queue is None:
            queue = self.queues[place] = FairQueue(size, length)
        queue.size, queue.length = size, length
        return queue


@dataclass(frozen=True, slots=True)
class CandidateStatus:
    provider: str
    model: str
    label: str
    engine: str
    state: State
    """`closed` is usable, `half_open` waits for one probe."""
    off: SkipReason | None = None
    scope: HoldScope | None = None
    """What is skipped: the endpoint, the key or this model alone."""
    cause: ErrorClass | None = None
    until: float | None = None
    """Wall clock."""
    running: int = 0
    waiting: int = 0
    """Requests that wait in the queue of its server."""


def candidate_statuses(
    candidates: Iterable[Candidate], memory: RouterState, now: float, wall: float
) -> tuple[CandidateStatus, ...]:
    running = memory.running()
    return tuple(_status(c, memory, now, wall, running[c.key]) for c in candidates)


def _status(
    candidate: Candidate, memory: RouterState, now: float, wall: float, running: int
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
        running=running,
        waiting=0 if queue is None else queue.waiting,
    )
