"""ModelRouter: one chat request in, one reply out, by trying the candidates in order.

The only place in the program that retries, skips or fails over.
"""

from collections import deque
from collections.abc import Coroutine, Sequence

from understudy.routing.candidate_queue import CandidateQueue
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment, RouterRules
from understudy.routing.recorder import Recorder
from understudy.routing.request import ReplyEnded, ReplyRequest, ReplySink
from understudy.routing.request_run import RequestRun, RouterParts
from understudy.routing.router_state import CandidateStatus, RouterState, candidate_statuses
from understudy.routing.selection import Selection


class ModelRouter:
    """Immutable in its candidates and rules: a changed configuration makes a new router."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        rules: RouterRules | None = None,
        *,
        memory: RouterState | None = None,
        instruments: RouterEnvironment | None = None,
    ) -> None:
        self.candidates = tuple(candidates)
        self.rules = rules or RouterRules()
        self._env = instruments or RouterEnvironment()
        self.memory = memory or RouterState.fresh(self._env.clock, self._env.random)
        """Pass it to the router of a changed configuration to keep the cooldowns."""
        self._parts = RouterParts(
            self.memory,
            self._env,
            self.rules,
            Selection(self.memory, self._env),
            Recorder(self._env, self.rules.config_rev),
        )
        self._orders: dict[tuple[str, ...] | None, tuple[Candidate, ...]] = {
            None: tuple(c for c in self.candidates if not c.only_by_name)
        }
        """As many as the configuration has names for."""

    def reply(
        self, request: ReplyRequest, sink: ReplySink
    ) -> Coroutine[object, object, ReplyEnded]:
        """Make one reply. Cancelling it closes the connection to the server at once, and leaves
        exactly one record of everything that was started. Raises what the sink raises."""
        now = self._env.clock()
        pacing = self.memory.pacing
        if pacing.second == int(now):
            pacing.in_second += 1
        else:
            pacing.begin_second(now)
        candidates = self._orders.get(request.order)
        if candidates is None:
            candidates = self._orders[request.order] = self._order(request.order)
        queue = CandidateQueue(deque(candidates), request.degrade_images)
        of_max = self.rules.max_attempts or len(candidates) + 2
        run = RequestRun(request, sink, candidates, self._parts, queue, of_max, now)
        return run.run()

    def status(self) -> tuple[CandidateStatus, ...]:
        """Return the current state of each candidate, in order."""
        return candidate_statuses(self.candidates, self.memory, self._env.clock(), self._env.wall())

    def reset(self, provider: str | None = None) -> None:
        """End the cooldowns of one provider, or of all."""
        for candidate in self.candidates:
            if provider in (None, candidate.provider):
                for key in candidate.scope_keys:
                    self.memory.board.reset(key)

    def _order(self, names: Sequence[str] | None) -> tuple[Candidate, ...]:
        wanted = (c for name in names or () for c in self.candidates if c.answers_to(name))
        return tuple(dict.fromkeys(wanted))
