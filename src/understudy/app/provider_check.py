"""Examines one candidate for `doctor` and the operator's page: a probe, then a short reply."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from understudy.errors import ErrorClass, ProviderError, Unreachable
from understudy.llm.addresses import api_root, server_root
from understudy.llm.client import Exchange, ProbeReport, ProbeState, stream_events
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.local_discovery import recognise
from understudy.llm.messages import (
    ChatRequest,
    Finished,
    Message,
    ReasoningDelta,
    TextDelta,
    TextPart,
    Usage,
)
from understudy.llm.model_list import report_failure
from understudy.routing.candidates import Candidate
from understudy.routing.records import SkipReason

_TRIAL_S = 60.0
_LEAST_S = 0.02
"""A shorter stretch of tokens says nothing about the speed: they came in one piece."""
_LEAST_OUTPUTS = 3
_AT_HOME = ("koboldcpp", "llama.cpp", "textgen-webui")
_QUESTION = ChatRequest(
    (Message("user", (TextPart("Count from one to twenty, in words."),)),), max_tokens=32
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One real reply, measured."""

    first_output_s: float | None = None
    whole_s: float = 0.0
    outputs: int = 0
    usage: Usage | None = None
    error: ProviderError | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """Rate of the tokens after the first; `None` where they came in one piece or are few."""
        if self.usage is None or self.first_output_s is None:
            return None
        if min(self.outputs, self.usage.output_tokens) < _LEAST_OUTPUTS:
            return None
        seconds = self.whole_s - self.first_output_s
        return (self.usage.output_tokens - 1) / seconds if seconds >= _LEAST_S else None

    @property
    def streams(self) -> bool | None:
        """Whether it came in pieces; a single piece may just be a short reply."""
        return True if self.outputs > 1 else None


@dataclass(frozen=True, slots=True)
class Finding:
    """The results for one candidate."""

    candidate: Candidate
    report: ProbeReport | None = None
    trial: Trial | None = None
    advice: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """A candidate that is switched off counts as fine."""
        if self.candidate.off is not None:
            return True
        ready = self.report is not None and self.report.state is ProbeState.READY
        return ready and (self.trial is None or self.trial.error is None)

    @property
    def state(self) -> str:
        if self.candidate.off is not None:
            return self.candidate.off.value
        if self.trial is not None and self.trial.error is not None:
            return self.trial.error.error_class.value
        return self.report.state.value if self.report is not None else "unknown"


async def examine(
    candidate: Candidate, *, ask: bool, clock: Callable[[], float] = time.monotonic
) -> Finding:
    """Probe one candidate; with `ask`, request a short reply, which may cost a few tokens."""
    if candidate.off is not None:
        return Finding(candidate, advice=_when_off(candidate))
    report = await candidate.client.probe(candidate.model)
    trial = None
    if ask and report.state is ProbeState.READY:
        trial = await _ask(candidate, clock)
    advice = advise(candidate, report, trial)
    finding = Finding(candidate, report, trial, advice)
    wrong = candidate.engine in _AT_HOME or (candidate.engine == "openai" and not finding.ok)
    if candidate.local and wrong:
        return replace(finding, advice=(*advice, *await _other_engine(candidate)))
    return finding


async def _other_engine(candidate: Candidate) -> tuple[str, ...]:
    """Name the engine that answers at an address, where it is not the configured one."""
    sessions = HttpSessions()
    try:
        found = await recognise(sessions, server_root(candidate.endpoint))
    finally:
        await sessions.aclose()
    if found is None:
        return ()
    advice = []
    if found.engine not in (candidate.engine, "openai"):
        advice.append(f"this is {found.engine}: set engine: {found.engine}")
    if api_root(found.base_url) != candidate.endpoint:
        advice.append(f"its API is at {api_root(found.base_url)}: set base_url: {found.base_url}")
    return tuple(advice)


def _wants_key(candidate: Candidate) -> str:
    return (
        f"{candidate.endpoint} wants a key and none is configured: put it into .env and name its "
        "variable in api_key_env"
    )


def advise(candidate: Candidate, report: ProbeReport, trial: Trial | None) -> tuple[str, ...]:
    """What the operator should do, one sentence each."""
    advice = _advise_on_probe(candidate, report)
    return tuple(advice if trial is None else [*advice, *_advise_on_trial(candidate, trial)])


def _advise_on_probe(candidate: Candidate, report: ProbeReport) -> list[str]:
    refused = report.state is ProbeState.KEY_REFUSED and candidate.key_ref is None
    if refused and "api_key_env" not in report.advice:
        return [_wants_key(candidate)]
    advice = [report.advice] if report.advice else []
    if report.state is ProbeState.READY and candidate.local and report.context_length is None:
        advice.append(
            "it does not say how long its context is: set context_length to what it was started "
            "with"
        )
    return advice


def _advise_on_trial(candidate: Candidate, trial: Trial) -> list[str]:
    advice = []
    if trial.error is not None:
        failure = report_failure(trial.error, candidate.endpoint).advice
        if trial.error.error_class is ErrorClass.AUTH and candidate.key_ref is None:
            failure = _wants_key(candidate)
        advice.append(f"the probe succeeded, but a real question failed: {failure}")
    elif trial.outputs == 0:
        advice.append("it answered without any text: try another model or chat template")
    budget = candidate.limits.first_token_s
    if trial.first_output_s is not None and trial.first_output_s > budget:
        advice.append(
            f"its first token took {trial.first_output_s:.1f} s, but the router waits only "
            f"{budget:g} s: raise timeout_seconds, or use a smaller model"
        )
    if trial.error is None and trial.usage is None:
        advice.append("it reports no usage: its tokens are estimated")
    return advice


def _when_off(candidate: Candidate) -> tuple[str, ...]:
    if candidate.off is SkipReason.NO_KEY:
        where = candidate.key_ref or "api_key_env"
        return (f"no key: set {where} in .env, or remove it from provider_order",)
    return ()


async def _ask(candidate: Candidate, clock: Callable[[], float]) -> Trial:
    started = clock()
    first: float | None = None
    outputs = 0
    usage: Usage | None = None
    exchange = Exchange()

    def since() -> float:
        """Seconds of work, without those of loading a model."""
        return clock() - started - exchange.loading_s

    try:
        stream = stream_events(candidate.client, _QUESTION, candidate.model, exchange)
        async with asyncio.timeout(_TRIAL_S), aclosing(stream) as events:
            async for event in events:
                if isinstance(event, TextDelta | ReasoningDelta):
                    first = since() if first is None else first
                    outputs += 1
                elif isinstance(event, Finished):
                    usage = event.usage
    except TimeoutError:
        error = Unreachable(ErrorClass.TOTAL_TIMEOUT)
        return Trial(first, since(), outputs, exchange.usage, error)
    except ProviderError as failed:
        return Trial(first, since(), outputs, exchange.usage, failed)
    return Trial(first, since(), outputs, usage)
