"""The clock an attempt runs against: one timer, however many events come."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from understudy.errors import ErrorClass, Unreachable

MIN_SHARE_S = 3.0
"""What each later usable candidate keeps of the time to the first visible text."""
_FLOOR_S = 1.0
_PROBE_S = 8.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of one attempt, in seconds. The connect timeout is the client's own."""

    first_token_s: float = 20.0
    """From sending the request to the first useful output."""
    idle_s: float = 20.0
    """Between two useful outputs."""
    total_s: float = 120.0
    queue_s: float = 2.0
    strict: bool = False
    """Hold to `first_token_s` even as the last candidate."""


USUAL_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Deadline:
    """Limits of a whole request, counted from when it was accepted."""

    commit_s: float = 45.0
    """To the first visible text of any attempt."""
    total_s: float = 180.0


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one attempt in seconds from its dispatch."""

    first_token_s: float
    visible_s: float
    """To the first visible text."""
    idle_s: float
    total_s: float

    def after(self, queued_s: float) -> "Budget":
        """What is left of it after time in the queue, which only the request's deadlines count."""
        if not queued_s:
            return self
        visible_s = max(self.visible_s - queued_s, 0.0)
        return Budget(
            first_token_s=min(self.first_token_s, visible_s),
            visible_s=visible_s,
            idle_s=self.idle_s,
            total_s=max(self.total_s - queued_s, 0.0),
        )


def budget(
    limits: Limits, *, remaining_s: float, total_s: float, later: int, probe: bool = False
) -> Budget:
    """What one attempt may spend.

    `remaining_s` is left until visible text must have come, `total_s` until the request must have
    ended, and `later` usable candidates come after this one.
    """
    kept = max(remaining_s - MIN_SHARE_S * later, min(_FLOOR_S, remaining_s))
    own = min(limits.first_token_s, _PROBE_S) if probe else limits.first_token_s
    alone = later == 0 and not limits.strict
    return Budget(
        first_token_s=kept if alone else min(own, kept),
        visible_s=kept,
        idle_s=limits.idle_s,
        total_s=min(limits.total_s, total_s),
    )


class AttemptTimer:
    """Cancels the attempt once it overstays one of its limits, and says which as an error.

    Used as a context manager around reading the stream. Only time spent waiting for the model
    counts: between `pause` and `resume`, while the sink works, nothing is cancelled.
    """

    def __init__(self, budget: Budget, clock: Callable[[], float], started: float) -> None:
        self._budget = budget
        self._clock = clock
        self._started = started
        self._useful_at: float | None = None
        self._visible = False
        self._waiting = True
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._overstayed: ErrorClass | None = None

    def useful(self, now: float, *, visible: bool) -> None:
        self._useful_at = now
        self._visible = self._visible or visible

    def pause(self) -> None:
        self._waiting = False

    def resume(self, now: float) -> None:
        """Raises `Unreachable` when a limit passed that the sink's own time does not excuse."""
        self._waiting = True
        if self._useful_at is not None:
            self._useful_at = now
        if self._timer is None and not self._arm(now):
            raise Unreachable(self._next_limit()[1])

    def __enter__(self) -> Self:
        """Raises `Unreachable` (`queue_timeout`) when all time went by before there was a turn."""
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        if not self._arm(self._clock()):
            raise Unreachable(ErrorClass.QUEUE_TIMEOUT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._overstayed is None or self._task is None:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise Unreachable(self._overstayed)

    def _next_limit(self) -> tuple[float, ErrorClass]:
        budget, start = self._budget, self._started
        whole_s = budget.total_s if self._visible else min(budget.total_s, budget.visible_s)
        if self._useful_at is None:
            due, limit = start + budget.first_token_s, ErrorClass.FIRST_TOKEN_TIMEOUT
        else:
            due, limit = self._useful_at + budget.idle_s, ErrorClass.IDLE_TIMEOUT
        # Where two fall together the more telling one is named.
        if due <= start + whole_s:
            return due, limit
        return start + whole_s, ErrorClass.TOTAL_TIMEOUT

    def _arm(self, now: float) -> bool:
        """False when the next limit has already passed."""
        due, _ = self._next_limit()
        if due <= now:
            return False
        self._timer = asyncio.get_running_loop().call_later(due - now, self._fire)
        return True

    def _fire(self) -> None:
        # Useful output only notes its time; the timer finds out here how far the limit has moved.
        self._timer = None
        now = self._clock()
        due, limit = self._next_limit()
        if due > now:
            self._arm(now)
        elif self._waiting and self._task is not None:
            self._overstayed = limit
            self._task.cancel()
