"""How each candidate stands right now, for the pages and gauges."""

from collections.abc import Iterable
from dataclasses import dataclass

from understudy.errors import ErrorClass, HoldScope
from understudy.routing.candidate import Candidate
from understudy.routing.cooldown import State
from understudy.routing.records import SkipReason
from understudy.routing.router_state import Memory


@dataclass(frozen=True, slots=True)
class Standing:
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


def standings(
    candidates: Iterable[Candidate], memory: Memory, now: float, wall: float
) -> tuple[Standing, ...]:
    return tuple(_standing(candidate, memory, now, wall) for candidate in candidates)


def _standing(candidate: Candidate, memory: Memory, now: float, wall: float) -> Standing:
    gate = memory.board.gate(candidate.scope_keys, now)
    hold, state = gate.hold, State.HALF_OPEN if gate.probes else State.CLOSED
    queue = memory.queues.get((candidate.provider, candidate.endpoint))
    return Standing(
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
