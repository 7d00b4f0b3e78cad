"""The candidates that one request may still try: in order, and those put off for the time being."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from understudy.routing.candidates import Candidate
from understudy.routing.cooldown import Cooldown
from understudy.routing.environment import RouterEnvironment
from understudy.routing.failure_policy import RULES
from understudy.routing.records import SkipReason
from understudy.routing.request import ReplyRequest
from understudy.routing.router_state import RouterState
from understudy.routing.selection import Selection

_WORTH_WAITING_S = 2.0


class CandidateQueue:
    """The order of one request, and what is tried once the order is through."""

    __slots__ = ("_cooling", "_env", "_waited", "selection", "waiting", "without_vision")

    def __init__(
        self,
        candidates: Sequence[Candidate],
        request: ReplyRequest,
        state: RouterState,
        env: RouterEnvironment,
    ) -> None:
        self.waiting = deque(candidates)
        """Candidates not considered yet, in order."""
        self.selection = Selection(request, state, env)
        self.without_vision: list[Candidate] = []
        """Cannot take the images: tried without them where no other is left."""
        self._cooling: list[Candidate] = []
        """Skipped for a cooldown: tried after all where no other is left."""
        self._waited = False
        self._env = env

    @property
    def is_last(self) -> bool:
        """Whether no other candidate waits to be tried."""
        return not (self.waiting or self._cooling)

    @property
    def has_more(self) -> bool:
        return bool(self.waiting or self._cooling or self.without_vision)

    def usable(self, now: float) -> int:
        """Count the candidates that could be tried now."""
        selection = self.selection
        usable = selection.usable(self.waiting, now)
        if usable or selection.degrading or not selection.request.degrade_images:
            return usable
        return sum(selection.hold(c, now) is None for c in self.without_vision)

    def postpone(self, candidate: Candidate, reason: SkipReason) -> bool:
        """Put a skipped candidate off for later; False where its skip is known already."""
        if reason is SkipReason.COOLDOWN:
            if candidate in self._cooling or self._waited:
                return False
            self._cooling.append(candidate)
        elif reason is SkipReason.CAPABILITY:
            self.without_vision.append(candidate)
        return True

    async def refill(self, remaining_s: Callable[[float], float]) -> bool:
        """Find candidates to try after all, once the order is through; False where none is left.

        `remaining_s` says for a time how long the request may still go on.
        """
        selection = self.selection
        if self.without_vision and selection.request.degrade_images and not selection.degrading:
            self.selection = msgspec.structs.replace(selection, degrading=True)
            self.waiting.extend(self.without_vision)
            return True
        if self._cooling and not self._waited:
            await self._wait_for_cooldown(remaining_s)
            return True
        if self._cooling and not selection.forcing:
            self._force()
            return True
        return False

    async def _wait_for_cooldown(self, remaining_s: Callable[[float], float]) -> None:
        """Wait for the soonest end of a cooldown if it is near."""
        self._waited = True
        now = self._env.clock()
        holds = [self.selection.hold(c, now) for c in self._cooling]
        wait_s = min((hold.until - now if hold else 0.0) for hold in holds)
        if wait_s <= min(_WORTH_WAITING_S, remaining_s(now)):
            await asyncio.sleep(wait_s)
            self._requeue(lambda hold: hold is None)

    def _force(self) -> None:
        """Try the candidates in a cooldown whose cause may have passed."""
        self.selection = msgspec.structs.replace(self.selection, forcing=True)
        self._requeue(lambda hold: hold is None or RULES[hold.cause].transient)
        if self.waiting and not self.selection.state.pacing.may_force(self._env.clock()):
            self.waiting.clear()

    def _requeue(self, ready: Callable[[Cooldown | None], bool]) -> None:
        now = self._env.clock()
        again = [c for c in self._cooling if ready(self.selection.hold(c, now))]
        self._cooling = [c for c in self._cooling if c not in again]
        self.waiting.extend(again)
