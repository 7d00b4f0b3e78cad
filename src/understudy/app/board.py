"""How the candidates stand right now, for the pages and series that show it."""

import time
from dataclasses import replace

from understudy.observability.metrics import Standing
from understudy.platforms.web.operator import CandidateView
from understudy.routing.attempts import SkipReason, words_of
from understudy.routing.candidate import Candidate
from understudy.routing.cooldown import State
from understudy.routing.in_force import RouterInForce

_OFF = {SkipReason.DISABLED: "switched off", SkipReason.NO_KEY: "its key is not set"}
_NUMBERS = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


def candidate_views(models: RouterInForce) -> tuple[CandidateView, ...]:
    """Every candidate in order, those that are off included."""
    return tuple(_view(models, candidate) for candidate in models.router.candidates)


def standings(models: RouterInForce) -> tuple[Standing, ...]:
    """The same for metrics, of those that are not off."""
    board, now = models.router.memory.board, time.monotonic()
    return tuple(
        Standing(
            candidate.name,
            {key.scope.value: _NUMBERS[board.state(key, now)] for key in candidate.scope_keys},
            inflight=_running(models, candidate),
        )
        for candidate in models.router.candidates
        if candidate.off is None
    )


def reset(models: RouterInForce, provider: str | None) -> None:
    """End the cooldowns of one provider, or of all."""
    board = models.router.memory.board
    for candidate in models.router.candidates:
        if provider in (None, candidate.provider):
            for key in candidate.scope_keys:
                board.reset(key)


def anyone_usable(models: RouterInForce) -> bool:
    """Whether a reply could be asked for at this moment."""
    return any(view.state in ("usable", "probing") for view in candidate_views(models))


def providers_text(models: RouterInForce) -> str:
    """A line for each candidate, for chat commands."""
    views = candidate_views(models)
    rows = (f"{view.label} {view.model}".rstrip() + f": {_said(view)}" for view in views)
    return "\n".join(rows)


def _said(view: CandidateView) -> str:
    if view.until is None:
        return view.reason or "usable"
    return f"{view.reason}, resting for {max(1, round(view.until - time.time()))} s"


def _view(models: RouterInForce, candidate: Candidate) -> CandidateView:
    view = CandidateView(
        provider=candidate.provider,
        label=candidate.label,
        model=candidate.model,
        engine=candidate.engine,
        state="usable",
        running=_running(models, candidate),
    )
    if candidate.off is not None:
        return replace(view, state="off", reason=_OFF.get(candidate.off, candidate.off.value))
    board, now = models.router.memory.board, time.monotonic()
    gate = board.gate(candidate.scope_keys, now)
    if gate.hold is None:
        return view
    if board.state(gate.hold.key, now) is State.HALF_OPEN:
        return replace(view, state="probing", reason=words_of(gate.hold.cause))
    until = time.time() + gate.hold.until - now
    return replace(view, state="resting", reason=words_of(gate.hold.cause), until=until)


def _running(models: RouterInForce, candidate: Candidate) -> int:
    queue = models.router.memory.queues.get((candidate.provider, candidate.endpoint))
    return queue.inside if queue is not None else 0
