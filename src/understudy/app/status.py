"""The current status of the candidates, for pages, metrics and commands."""

import asyncio
from functools import partial
from typing import Final, Literal

from understudy.app.models import ReloadableRouter
from understudy.app.provider_check import Finding, examine
from understudy.clock import Clock
from understudy.config.masking import without_password
from understudy.observability.metrics import CandidateGauges as Gauge
from understudy.platforms.web.operator import CandidateView, ServerTest
from understudy.routing.candidates import AUTO_MODEL, Candidate
from understudy.routing.cooldown import State
from understudy.routing.records import SkipReason, words_of
from understudy.routing.router import ModelRouter
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
    router = models.router
    return tuple(map(partial(_view, router), router.status(), router.candidates))


async def check_server(models: ReloadableRouter, provider: str) -> tuple[ServerTest, ...]:
    """Probe each model of a provider, and ask for a short reply, which may cost a few tokens.

    The automatic model is only probed: it always costs money.
    """
    candidates = [one for one in models.router.candidates if one.provider == provider]
    findings = await asyncio.gather(
        *(examine(one, ask=one.model != AUTO_MODEL) for one in candidates)
    )
    return tuple(map(_tested, findings))


def _tested(finding: Finding) -> ServerTest:
    trial = finding.trial
    return ServerTest(
        model=finding.candidate.model or (finding.report.model if finding.report else None) or "",
        ok=finding.ok and finding.candidate.off is None,
        state=finding.state.replace("_", " "),
        advice="; ".join(finding.advice),
        first_output_s=trial.first_output_s if trial else None,
        tokens_per_s=trial.tokens_per_s if trial else None,
    )


def gauges(models: ReloadableRouter, clocks: Clock) -> tuple[Gauge, ...]:
    """The same for metrics, without disabled candidates."""
    board, now = models.router.memory.board, clocks.monotonic()
    running = models.router.memory.running()
    return tuple(
        Gauge(
            candidate.name,
            {key.scope.value: _NUMBERS[board.state(key, now)] for key in candidate.scope_keys},
            inflight=running[candidate.key],
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


def _view(router: ModelRouter, status: CandidateStatus, candidate: Candidate) -> CandidateView:
    known = router.memory.book.of(candidate.key, candidate.capabilities)
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
        waiting=status.waiting,
        address=without_password(candidate.endpoint),
        context_length=known.n_ctx,
        vision=known.vision,
    )
