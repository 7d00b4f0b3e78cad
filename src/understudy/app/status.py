"""The current status of the candidates, for pages, metrics and commands."""

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
_STATES: Final[dict[State, Literal["usable", "probing", "cooldown"]]] = {
    State.CLOSED: "usable",
    State.HALF_OPEN: "probing",
    State.OPEN: "cooldown",
}


def candidate_views(models: ReloadableRouter) -> tuple[CandidateView, ...]:
    """Every candidate in order, disabled ones included."""
    return tuple(_view(status) for status in models.router.status())


def gauges(models: ReloadableRouter, clocks: Clock) -> tuple[Gauge, ...]:
    """The same for metrics, without disabled candidates."""
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


def any_usable(models: ReloadableRouter) -> bool:
    """Whether any candidate can take a request now."""
    return any(s.off is None and s.state is not State.OPEN for s in models.router.status())


def providers_text(models: ReloadableRouter, clocks: Clock) -> str:
    """A line for each candidate, for chat commands."""
    return "\n".join(_line(view, clocks.wall()) for view in candidate_views(models))


def _line(view: CandidateView, now: float) -> str:
    text = view.reason or "usable"
    if view.until is not None:
        text += f", cooldown for {max(1, round(view.until - now))} s"
    return f"{f'{view.label} {view.model}'.rstrip()}: {text}"


def _view(status: CandidateStatus) -> CandidateView:
    reason = words_of(status.cause) if status.cause is not None else ""
    return CandidateView(
        provider=status.provider,
        label=status.label,
        model=status.model,
        engine=status.engine,
        state="off" if status.off is not None else _STATES[status.state],
        reason=reason if status.off is None else _OFF.get(status.off, status.off.value),
        until=status.until,
        running=status.running,
    )
