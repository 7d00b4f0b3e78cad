"""How the candidates stand right now, in the forms that pages and series want."""

from typing import Final, Literal

from understudy.app.models import ReloadableRouter
from understudy.clock import Clock
from understudy.observability.metrics import CandidateGauges as Gauge
from understudy.platforms.web.operator import CandidateView
from understudy.routing.cooldown import State
from understudy.routing.records import SkipReason, words_of
from understudy.routing.router_state import CandidateStatus

_OFF = {SkipReason.DISABLED: "switched off", SkipReason.NO_KEY: "its key is not set"}
_NUMBERS = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
_STATES: Final[dict[State, Literal["usable", "probing", "resting"]]] = {
    State.CLOSED: "usable",
    State.HALF_OPEN: "probing",
    State.OPEN: "resting",
}


def candidate_views(models: ReloadableRouter) -> tuple[CandidateView, ...]:
    """Every candidate in order, those that are off included."""
    return tuple(_view(standing) for standing in models.router.status())


def gauges(models: ReloadableRouter, clocks: Clock) -> tuple[Gauge, ...]:
    """The same for metrics, of those that are not off."""
    board, now = models.router.memory.board, clocks.monotonic()
    running = models.router.memory.running
    return tuple(
        Gauge(
            candidate.name,
            {key.scope.value: _NUMBERS[board.state(key, now)] for key in candidate.scope_keys},
            inflight=running.get(candidate.key, 0),
        )
        for candidate in models.router.candidates
        if candidate.off is None
    )


def anyone_usable(models: ReloadableRouter) -> bool:
    """Whether somebody could be asked for a reply at this moment."""
    return any(s.off is None and s.state is not State.OPEN for s in models.router.status())


def providers_text(models: ReloadableRouter, clocks: Clock) -> str:
    """A line for each candidate, for chat commands."""
    return "\n".join(_line(view, clocks.wall()) for view in candidate_views(models))


def _line(view: CandidateView, now: float) -> str:
    said = view.reason or "usable"
    if view.until is not None:
        said += f", resting for {max(1, round(view.until - now))} s"
    return f"{f'{view.label} {view.model}'.rstrip()}: {said}"


def _view(standing: CandidateStatus) -> CandidateView:
    reason = words_of(standing.cause) if standing.cause is not None else ""
    return CandidateView(
        provider=standing.provider,
        label=standing.label,
        model=standing.model,
        engine=standing.engine,
        state="off" if standing.off is not None else _STATES[standing.state],
        reason=reason if standing.off is None else _OFF.get(standing.off, standing.off.value),
        until=standing.until,
        running=standing.running,
    )
