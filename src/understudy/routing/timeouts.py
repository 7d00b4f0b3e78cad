"""The clock an attempt runs against: one timer, however many events come."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from understudy.errors import ErrorClass, Unreachable
from understudy.routing.deadlines import Budget


class Watch:
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
