"""Time limits of attempts and requests, and the timers that attempts share."""

import asyncio
from typing import Protocol

import msgspec

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
    check_s: float
    """When to check the limits first. The first output may come before, and the idle limit counts
    from then."""
    is_last: bool = False
    """No usable candidate comes after it, so that it may wait for a model to be loaded."""

    def after(self, queued_s: float) -> "Budget":
        """Subtract the time in the queue, which counts only against the request's deadlines."""
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
    return Budget(first_token_s, visible_s, idle_s, total_s, check_s, is_last)


class Timed(Protocol):
    """Something with a time limit."""

    def clock(self) -> float: ...

    def check(self) -> None:
        """Called when it has waited as long as it wanted to."""
        ...


class SharedTimer:
    """For attempts that wait equally long, each with the time at which it is checked.

    They wait in the order in which they joined, so one timer of the loop is enough for all.
    """

    __slots__ = ("_is_set", "_wait_s", "loop", "waiting")

    def __init__(self, wait_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._wait_s = wait_s
        self._is_set = False
        self.loop = loop
        self.waiting: dict[Timed, float] = {}
        """Leave it to be checked no more."""

    def join(self, attempt: Timed, now: float) -> None:
        self.waiting[attempt] = now + self._wait_s
        if not self._is_set:
            self._is_set = True
            self.loop.call_later(self._wait_s, self._check)

    def _check(self) -> None:
        self._is_set = False
        while self.waiting:
            attempt, due = next(iter(self.waiting.items()))
            wait_s = due - attempt.clock()
            if wait_s > _CLOCK_STEP_S:
                self._is_set = True
                self.loop.call_later(wait_s, self._check)
                return
            del self.waiting[attempt]
            # Should this one raise, the others are checked all the same.
            others = self.loop.call_soon(self._check)
            attempt.check()
            others.cancel()


class AttemptTimers:
    """The timers of all attempts of a process, shared by those of equal limits: an attempt that
    ends in time sets and cancels none of the loop's."""

    def __init__(self) -> None:
        self._by_wait: dict[float, SharedTimer] = {}
        self._most = _USUAL_WAITS

    def watch(self, attempt: Timed, now: float, wait_s: float) -> SharedTimer:
        """Check an attempt in `wait_s` from `now`; it leaves the timer that is returned."""
        loop = asyncio.get_running_loop()
        shared = self._by_wait.get(wait_s)
        if shared is None or shared.loop is not loop:
            if len(self._by_wait) >= self._most:
                self._drop_unused()
            shared = self._by_wait[wait_s] = SharedTimer(wait_s, loop)
        shared.join(attempt, now)
        return shared

    def _drop_unused(self) -> None:
        """Few waits are usual; those of attempts after a failed one are all different."""
        self._by_wait = {wait_s: one for wait_s, one in self._by_wait.items() if one.waiting}
        self._most = max(_USUAL_WAITS, 2 * len(self._by_wait))
