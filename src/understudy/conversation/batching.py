"""Which messages are answered together, and when: pure functions of (messages, now).

A *burst* is a run of messages by one author. A burst that addresses the bot becomes one batch as
soon as its author pauses; all other messages of a channel become one batch per interval. Times
are wall clock, because they must survive a restart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from understudy.config.settings import Conversation
from understudy.conversation.inbox import (
    Batch,
    BatchState,
    PendingWork,
    StoredMessage,
    can_reclaim,
    is_late,
    is_recovering,
)

NEAR_LIMIT_CHARS = 1900
"""Discord splits a long paste at 2000 characters, so the rest is likely to follow."""
TYPING_S = 5.0
"""How long one typing event extends a burst; Discord repeats it about every 8 seconds."""
_CLOCK_SLACK_S = 1.0


@dataclass(frozen=True, slots=True)
class BatchRules:
    quiet_s: float = 1.2
    long_chunk_quiet_s: float = 2.5
    cap_s: float = 8.0
    interval_s: float = 5.0
    parallel: int = 2

    @staticmethod
    def of(settings: Conversation) -> "BatchRules":
        return BatchRules(
            quiet_s=settings.quiet_seconds,
            long_chunk_quiet_s=settings.long_chunk_quiet_seconds,
            cap_s=settings.burst_cap_seconds,
            interval_s=settings.interval_seconds,
            parallel=settings.parallel_replies,
        )

    @staticmethod
    def at_once(settings: Conversation) -> "BatchRules":
        """No waiting: for private places, where every message is complete."""
        return BatchRules(0, 0, 0, 0, settings.parallel_replies)


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch that may start now."""

    messages: tuple[StoredMessage, ...]
    directed: bool


@dataclass(frozen=True, slots=True)
class Plan:
    ready: tuple[Ready, ...] = ()
    """In the order in which they must start."""
    reclaim: tuple[str, ...] = ()
    """Batches to claim again: a crash left them, or their retry is due."""
    wake_at: float | None = None
    """When to plan again; None when only a new message or the end of a reply changes the plan."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    messages: tuple[StoredMessage, ...]
    directed: bool
    due: float

    @property
    def lane(self) -> str | None:
        return _lane(self.messages, directed=self.directed)


def plan(work: PendingWork, typing: Mapping[str, float], rules: BatchRules, now: float) -> Plan:
    """What may start now. `typing` maps an author id to their last typing event."""
    reclaim = _reclaimable(work.batches, now)
    held = [b for b in work.batches if b.state is BatchState.CLAIMED and b.lease_until > now]
    wakes = [
        b.retry_at or 0.0 if b.state is BatchState.WAITING else b.lease_until for b in work.batches
    ]
    if any(is_recovering(b) or (b.id in reclaim and not is_late(b)) for b in work.batches):
        # Batches that a crash interrupted run first, unchanged; new messages wait.
        return Plan((), reclaim, _soonest(wakes, now))
    candidates = sorted(
        _candidates(work.waiting, typing, rules, now), key=lambda c: c.messages[0].seq
    )
    running = [b for b in held if not is_late(b)]
    ready = _startable([c for c in candidates if c.due <= now], running, rules.parallel)
    return Plan(ready, reclaim, _soonest([*wakes, *(c.due for c in candidates)], now))


def _reclaimable(batches: Sequence[Batch], now: float) -> tuple[str, ...]:
    """Every batch that a crash left, and the oldest batch whose retry is due."""
    due = [b for b in batches if can_reclaim(b, now)]
    crashed = [b.id for b in due if not is_late(b)]
    late = [b for b in due if is_late(b)]
    running_late = any(
        is_late(b) for b in batches if not can_reclaim(b, now) and b.state is BatchState.CLAIMED
    )
    oldest = sorted(late, key=lambda b: b.created_at)[: 0 if running_late else 1]
    return (*crashed, *(b.id for b in oldest))


def _soonest(times: Sequence[float], now: float) -> float | None:
    return min((at for at in times if at > now), default=None)


def _startable(
    due: Sequence[_Candidate], running: Sequence[Batch], parallel: int
) -> tuple[Ready, ...]:
    busy = {_lane(batch.messages, directed=batch.directed) for batch in running}
    free = parallel - len(running)
    ready: list[Ready] = []
    for candidate in due:
        if free <= 0:
            break
        if candidate.lane in busy:
            continue
        busy.add(candidate.lane)
        free -= 1
        ready.append(Ready(candidate.messages, candidate.directed))
    return tuple(ready)


def _lane(messages: Sequence[StoredMessage], *, directed: bool) -> str | None:
    """Batches of one lane run one after the other: those of one author, and the undirected ones."""
    return messages[0].inbound.author.id if directed and messages else None


def _candidates(
    waiting: Sequence[StoredMessage], typing: Mapping[str, float], rules: BatchRules, now: float
) -> list[_Candidate]:
    bursts: dict[str, list[StoredMessage]] = {}
    for message in waiting:
        bursts.setdefault(message.inbound.author.id, []).append(message)
    found: list[_Candidate] = []
    general: list[StoredMessage] = []
    for author_id, burst in bursts.items():
        if any(message.directed for message in burst):
            due = _quiet_from(burst, typing.get(author_id), rules, now)
            found.append(_Candidate(tuple(burst), directed=True, due=due))
        else:
            general += burst
    if general:
        general.sort(key=lambda message: message.seq)
        found.append(
            _Candidate(tuple(general), directed=False, due=_interval_end(general, rules, now))
        )
    return found


def _quiet_from(
    burst: Sequence[StoredMessage], typing_at: float | None, rules: BatchRules, now: float
) -> float:
    """When the author's pause is long enough, or the burst reaches its cap."""
    last = burst[-1]
    came = _arrived_at(last, now)
    due = came + _quiet_s(last, rules)
    if typing_at is not None and came < typing_at <= now:
        due = max(due, typing_at + TYPING_S)
    return min(due, _arrived_at(burst[0], now) + rules.cap_s) if rules.quiet_s else came


def _interval_end(general: Sequence[StoredMessage], rules: BatchRules, now: float) -> float:
    """The end of the interval that the first message opened, extended to the end of a burst."""
    turn = _arrived_at(general[0], now) + rules.interval_s
    quiet = _arrived_at(general[-1], now) + _quiet_s(general[-1], rules)
    return max(turn, min(quiet, turn + rules.cap_s))


def _quiet_s(message: StoredMessage, rules: BatchRules) -> float:
    near_limit = len(message.inbound.text) >= NEAR_LIMIT_CHARS
    return rules.long_chunk_quiet_s if near_limit else rules.quiet_s


def _arrived_at(message: StoredMessage, now: float) -> float:
    """Arrival time; 0 for a time in the future, which a clock that was set back leaves behind."""
    return message.arrived_at if message.arrived_at <= now + _CLOCK_SLACK_S else 0.0
