"""The candidates that one request may still try: in order, and those put off for the time being."""

from collections import deque

import msgspec

from understudy.routing.candidates import Candidate
from understudy.routing.failure_policy import RULES
from understudy.routing.records import SkipReason
from understudy.routing.router_state import RouterState

_WORTH_WAITING_S = 2.0


class CandidateQueue(msgspec.Struct, eq=False):
    """The order of one request, and what is tried once the order is through."""

    waiting: deque[Candidate]
    """Candidates not considered yet, in order."""
    degrades: bool = True
    """Whether images may be left out where no other candidate is left."""
    degrading: bool = False
    """Images are left out for candidates without vision."""
    forcing: bool = False
    """Candidates in a cooldown for a transient cause are tried too."""
    without_vision: tuple[Candidate, ...] = ()
    """Cannot take the images: tried without them where no other is left."""
    cooling: tuple[Candidate, ...] = ()
    """Skipped for a cooldown: tried after all where no other is left."""
    waited: bool = False
    """For the soonest end of a cooldown."""

    @property
    def is_last(self) -> bool:
        """Whether no other candidate waits to be tried."""
        return not (self.waiting or self.cooling)

    @property
    def has_more(self) -> bool:
        return bool(self.waiting or self.cooling or self.without_vision)

    def postpone(self, candidate: Candidate, reason: SkipReason) -> bool:
        """Put a skipped candidate off for later; False where its skip is known already."""
        if reason is SkipReason.COOLDOWN:
            if candidate in self.cooling or self.waited:
                return False
            self.cooling += (candidate,)
        elif reason is SkipReason.CAPABILITY:
            self.without_vision += (candidate,)
        return True

    def refill(self, state: RouterState, now: float, remaining_s: float) -> float | None:
        """Find candidates to try after all, once the order is through.

        Returns how long to wait before the next call, 0 where there are candidates now, `None`
        where none is left.
        """
        if self.without_vision and self.degrades and not self.degrading:
            self.degrading = True
            self.waiting.extend(self.without_vision)
            return 0.0
        if not self.cooling or self.forcing:
            return None
        if not self.waited:
            self.waited = True
            wait_s = self._soonest_s(state, now)
            if wait_s <= min(_WORTH_WAITING_S, remaining_s):
                return wait_s
        if not self._requeue(state, now):
            self.forcing = True
            self._requeue(state, now)
            if self.waiting and not state.pacing.may_force(now):
                self.waiting.clear()
        return 0.0

    def _soonest_s(self, state: RouterState, now: float) -> float:
        """Until the soonest end of a cooldown."""
        holds = [state.board.availability(c.scope_keys, now).hold for c in self.cooling]
        return min(hold.until - now if hold else 0.0 for hold in holds)

    def _requeue(self, state: RouterState, now: float) -> bool:
        """Queue those whose cooldown is over; when forcing, also those whose cause may have
        passed. False where there are none."""
        again = []
        for candidate in self.cooling:
            hold = state.board.availability(candidate.scope_keys, now).hold
            if hold is None or (self.forcing and RULES[hold.cause].transient):
                again.append(candidate)
        self.cooling = tuple(c for c in self.cooling if c not in again)
        self.waiting.extend(again)
        return bool(again)
