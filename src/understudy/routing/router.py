"""ModelRouter: one chat request in, one reply out, by trying the candidates in order.

The only place in the program that retries, skips or fails over.
"""

from collections.abc import Coroutine, Sequence

from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment, RouterRules
from understudy.routing.request import ReplyEnded, ReplyRequest, ReplySink
from understudy.routing.request_run import RequestRun
from understudy.routing.router_state import CandidateStatus, RouterState, candidate_statuses


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
        self._usual = tuple(c for c in self.candidates if not c.only_by_name)
        self.rules = rules or RouterRules()
        self._env = instruments or RouterEnvironment()
        self.memory = memory or RouterState.fresh(self._env.clock, self._env.random)
        """Pass it to the router of a changed configuration to keep the cooldowns."""
        self._orders: dict[tuple[str, ...], tuple[Candidate, ...]] = {}
        """As many as the configuration has names for."""

    def reply(
        self, request: ReplyRequest, sink: ReplySink
    ) -> Coroutine[object, object, ReplyEnded]:
        """Make one reply. Cancelling it closes the connection to the server at once, and leaves
        exactly one record of everything that was started. Raises what the sink raises."""
        self.memory.pacing.request(self._env.clock())
        candidates = self._order(request)
        run = RequestRun(request, sink, candidates, self.memory, self._env, self.rules)
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

    def _order(self, request: ReplyRequest) -> Sequence[Candidate]:
        if request.order is None:
            return self._usual
        order = self._orders.get(request.order)
        if order is None:
            wanted = (c for name in request.order for c in self.candidates if c.answers_to(name))
            order = self._orders[request.order] = tuple(dict.fromkeys(wanted))
        return order
