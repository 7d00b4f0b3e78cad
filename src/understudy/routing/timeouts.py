"""Time limits of attempts and requests, and the timer that enforces those of an attempt."""

import asyncio
from typing import Protocol

import msgspec

from understudy.errors import ErrorClass, Unreachable

MIN_SHARE_S = 3.0
"""Share of the time to the first visible text that each later usable candidate keeps."""
_FLOOR_S = 1.0
_PROBE_S = 8.0
_CLOCK_STEP_S = 0.001
"""Timers of the loop count milliseconds."""
_USUAL_WAITS = 32


class Limits(msgspec.Struct, frozen=True):
    """Time limits of one attempt, in seconds. The connect timeout is the client's own."""

    first_token_s: float = 20.0
    """From sending the request to the first useful output."""
    idle_s: float = 20.0
    """Between two useful outputs."""
    total_s: float = 120.0
    queue_s: float = 2.0
    strict: bool = False
    """Keep to `first_token_s` even as the last candidate."""


USUAL_LIMITS = Limits()


class Deadline(msgspec.Struct, frozen=True):
    """Limits of a whole request, counted from when it was accepted."""

    commit_s: float = 45.0
    """To the first visible text of any attempt."""
    total_s: float = 180.0


class Budget(msgspec.Struct, frozen=True):
    """Limits of one attempt in seconds from its dispatch."""

    first_token_s: float
    visible_s: float
    """To the first visible text."""
    idle_s: float
    total_s: float
    is_last: bool = False
    """No usable candidate comes after it, so that it may wait for a model to be loaded."""
    check_s: float = 0.0
    """When to check the limits first. The first output may come before, and the idle limit counts
    from then."""

    def after(self, queued_s: float) -> "Budget":
        """Subtract the time in the queue, which counts only against the request's deadlines."""
        if not queued_s:
            return self
        visible_s = max(self.visible_s - queued_s, 0.0)
        first_token_s = min(self.first_token_s, visible_s)
        total_s = max(self.total_s - queued_s, 0.0)
        return _checked(first_token_s, visible_s, self.idle_s, total_s, is_last=self.is_last)


def budget(
    limits: Limits, *, remaining_s: float, total_s: float, later: int, probe: bool = False
) -> Budget:
    """What one attempt may spend.

    `remaining_s` is left until visible text must have come, `total_s` until the request must have
    ended, and `later` usable candidates come after this one.
    """
    kept = remaining_s
    if later:
        kept = max(remaining_s - MIN_SHARE_S * later, min(_FLOOR_S, remaining_s))
    own = min(limits.first_token_s, _PROBE_S) if probe else limits.first_token_s
    is_last = later == 0 and not limits.strict
    if is_last or own > kept:
        own = kept
    return _checked(own, kept, limits.idle_s, min(limits.total_s, total_s), is_last=is_last)


def _checked(
    first_token_s: float, visible_s: float, idle_s: float, total_s: float, *, is_last: bool
) -> Budget:
    check_s = min(first_token_s, visible_s, idle_s, total_s)
    return Budget(first_token_s, visible_s, idle_s, total_s, is_last, check_s)


class TimedAttempt(Protocol):
    """What the timer needs of its attempt."""

    started: float
    first_output: float | None
    first_visible: float | None
    last_useful: float

    def clock(self) -> float: ...

    def expired(self, limit: ErrorClass) -> None:
        """End the attempt; called once, for the limit that it exceeded."""
        ...


class _SharedTimer:
    """Attempts that wait equally long, each with the time at which it is checked.

    They wait in the order in which they joined, so one timer of the loop is enough for all.
    """

    __slots__ = ("_is_set", "_wait_s", "loop", "waiting")

    def __init__(self, wait_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._wait_s = wait_s
        self._is_set = False
        self.loop = loop
        self.waiting: dict[AttemptTimer, float] = {}

    def join(self, timer: "AttemptTimer", now: float) -> None:
        self.waiting[timer] = now + self._wait_s
        if not self._is_set:
            self._is_set = True
            self.loop.call_later(self._wait_s, self._check)

    def _check(self) -> None:
        self._is_set = False
        while self.waiting:
            timer, due = next(iter(self.waiting.items()))
            wait_s = due - timer.attempt.clock()
            if wait_s > _CLOCK_STEP_S:
                self._is_set = True
                self.loop.call_later(wait_s, self._check)
                return
            del self.waiting[timer]
            timer.check()


class AttemptTimers:
    """The timers of all attempts of a process, shared by those of equal limits: an attempt that
    ends in time sets and cancels none of the loop's."""

    def __init__(self) -> None:
        self._by_wait: dict[float, _SharedTimer] = {}
        self._most = _USUAL_WAITS

    def of(self, wait_s: float, loop: asyncio.AbstractEventLoop) -> _SharedTimer:
        shared = self._by_wait.get(wait_s)
        if shared is None or shared.loop is not loop:
            if len(self._by_wait) >= self._most:
                self._drop_unused()
            shared = self._by_wait[wait_s] = _SharedTimer(wait_s, loop)
        return shared

    def _drop_unused(self) -> None:
        """Few waits are usual; those of attempts after a failed one are all different."""
        self._by_wait = {wait_s: one for wait_s, one in self._by_wait.items() if one.waiting}
        self._most = max(_USUAL_WAITS, 2 * len(self._by_wait))


class AttemptTimer:
    """Ends an attempt once it exceeds one of its limits. Checks are moved lazily.

    Only time spent waiting for the model counts: between `pause` and `resume`, while the sink
    works, nothing expires.
    """

    __slots__ = ("_budget", "_resumed", "_shared", "_waiting", "attempt")

    def __init__(
        self,
        budget: Budget,
        attempt: TimedAttempt,
        timers: AttemptTimers,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Starts it. Raises `Unreachable` (`queue_timeout`) where no time is left after the queue.

        The attempt is asked when the timer fires, so output that comes does not move it.
        """
        if budget.check_s <= 0:
            raise Unreachable(ErrorClass.QUEUE_TIMEOUT)
        self._budget = budget
        self.attempt = attempt
        self._resumed = attempt.started
        self._waiting = True
        self._shared = timers.of(budget.check_s, loop)
        self._shared.join(self, attempt.started)

    def stop(self) -> None:
        self._waiting = False
        self._shared.waiting.pop(self, None)

    def pause(self) -> None:
        self._waiting = False

    def resume(self) -> None:
        """Wait for the model again; a limit that passed meanwhile expires now."""
        self._waiting = True
        now = self._resumed = self.attempt.clock()
        if self not in self._shared.waiting and not self._schedule(now):
            self.attempt.expired(self._next_limit()[1])

    def _next_limit(self) -> tuple[float, ErrorClass]:
        budget, attempt = self._budget, self.attempt
        start, whole_s = attempt.started, budget.total_s
        if attempt.first_visible is None and budget.visible_s < whole_s:
            whole_s = budget.visible_s
        if attempt.first_output is None:
            due, limit = start + budget.first_token_s, ErrorClass.FIRST_TOKEN_TIMEOUT
        else:
            useful_at = max(attempt.last_useful, self._resumed)
            due, limit = useful_at + budget.idle_s, ErrorClass.IDLE_TIMEOUT
        # Of two that end together the more precise one is named.
        if due <= start + whole_s:
            return due, limit
        return start + whole_s, ErrorClass.TOTAL_TIMEOUT

    def _schedule(self, now: float) -> bool:
        """False when the next limit has already passed."""
        due, _ = self._next_limit()
        if due <= now:
            return False
        wait_s = due - now
        if self.attempt.first_output is None:
            wait_s = min(wait_s, self._budget.idle_s)
        self._shared = _SharedTimer(wait_s, self._shared.loop)
        self._shared.join(self, now)
        return True

    def check(self) -> None:
        """End the attempt if a limit has passed, or wait for the next one."""
        if not self._waiting:
            return
        now = self.attempt.clock()
        if not self._schedule(now):
            self.attempt.expired(self._next_limit()[1])
