"""Prometheus series about attempts and replies.

Labels come from the configuration and from our own enumerations only: never a user, a channel, a
client's model name or a server's words, so their number is bounded by the configuration.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from understudy.llm.messages import UsageSource
from understudy.observability.semconv import provider_name
from understudy.routing.records import AttemptRecord, Outcome, ReplyRecord

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
DURATIONS: Final = tuple(0.01 * 2**power for power in range(14))
"""Seconds, 0.01 to 81.92: the buckets of the GenAI conventions."""
CLOSED, HALF_OPEN, OPEN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class CandidateGauges:
    """The current state of a candidate."""

    candidate: str
    states: Mapping[str, int] = field(default_factory=dict)
    """Per scope (`E`, `K`, `M`...): `CLOSED`, `HALF_OPEN` or `OPEN`."""
    inflight: int = 0


ReadStandings = Callable[[], Iterable[CandidateGauges]]


def _nothing() -> tuple[CandidateGauges, ...]:
    return ()


# A member of an enumeration costs ten times as much to look up as a name of a module.
_ERROR, _SKIPPED, _ESTIMATED = Outcome.ERROR, Outcome.SKIPPED, UsageSource.ESTIMATED
_BOUNDS_MS = [10 * 2**power for power in range(len(DURATIONS))]
"""`DURATIONS` in milliseconds."""
_LABELS = ("gen_ai_provider_name", "gen_ai_request_model")
_TOKENS = ("input", "output", "reasoning_output", "cache_read_input", "cache_write_input")
"""The kinds of the GenAI conventions, in the order of the fields of `Usage`."""
_NO_TOKENS = (0,) * len(_TOKENS)
_ONE = (1,)
_LIMITS = (*map(str, DURATIONS), "+Inf")


class Metrics:
    """An observer that counts attempts and replies, and the page that shows them.

    It counts in plain numbers, because a series of the Prometheus client takes 5 µs for each
    addition; the page makes the series.
    """

    def __init__(
        self,
        standings: ReadStandings = _nothing,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        registry = self.registry = CollectorRegistry()
        registry.register(_Standings(standings, clock))

        def counter(name: str, text: str, *labels: str) -> _Counters:
            return counters({name: text}, *labels)

        def counters(texts: Mapping[str, str], *labels: str) -> _Counters:
            registry.register(made := _Counters(texts, labels, wall))
            return made

        def histogram(name: str, text: str, *labels: str) -> _Histogram:
            registry.register(made := _Histogram(name, text, labels, wall))
            return made

        self._attempts = counter(
            "router_attempts",
            "Attempts that have ended, skips excluded",
            *("candidate", "outcome", "error_class", "role"),
        )
        self._skips = counter("router_skips", "Candidates left out", "candidate", "reason")
        self._requests = counter("router_requests", "Replies that have ended", "sink", "outcome")
        self._failovers = counter(
            "router_failovers",
            "Times a candidate took over from one that failed",
            *("from", "to", "error_class"),
        )
        self._first_visible = histogram(
            "router_time_to_first_visible_seconds",
            "From the accepted request to the first visible text",
        )
        self._idle_gap = histogram("router_idle_gap_seconds", "Longest silence of each attempt")
        self._queue = histogram("router_queue_seconds", "Wait for a free place at the candidate")
        self._cost = counter("router_cost_usd", "Cost as far as it is known, in US dollars")
        self._estimated = counter("router_tokens_estimated", "Tokens that no server reported")
        # The GenAI conventions' own series, as Prometheus spells them.
        self._duration = histogram(
            "gen_ai_client_inference_duration_seconds",
            "From sending an attempt to its end",
            *(*_LABELS, "error_type"),
        )
        self._first_chunk = histogram(
            "gen_ai_client_inference_time_to_first_chunk_seconds",
            "From sending an attempt to its first output",
            *_LABELS,
        )
        self._tokens = counters(
            {
                f"gen_ai_client_inference_usage_{kind}_tokens": (
                    f"{kind.replace('_', ' ').capitalize()} tokens, discarded replies included"
                )
                for kind in _TOKENS
            },
            *(*_LABELS, "gen_ai_token_modality"),
        )

    def attempt_ended(self, record: AttemptRecord) -> None:
        if record.outcome is _SKIPPED:
            self._skips.add((record.candidate, _text(record.skip_reason)))
            return
        error, usage = _text(record.error_class), record.usage
        self._attempts.add((record.candidate, _text(record.outcome), error, _text(record.role)))
        self._idle_gap.observe((), record.max_gap_ms)
        self._queue.observe((), record.t_queue_ms)
        if record.cost_usd:
            self._cost.add((), (record.cost_usd,))
        if usage is not None and usage.source is _ESTIMATED:
            self._estimated.add((), (usage.input_tokens + usage.output_tokens,))
        asked = (provider_name(record.engine), record.model_requested)
        self._duration.observe((*asked, error), record.t_total_ms)
        if record.t_first_output_ms is not None:
            self._first_chunk.observe(asked, record.t_first_output_ms)
        tokens = _NO_TOKENS if usage is None else msgspec.structs.astuple(usage)[: len(_TOKENS)]
        modality = "text" if usage is not None and not record.images else "unknown"
        self._tokens.add((*asked, modality), tokens)

    def reply_ended(self, record: ReplyRecord) -> None:
        self._requests.add((record.sink, _text(record.outcome)))
        if record.t_first_visible_ms is not None:
            self._first_visible.observe((), record.t_first_visible_ms)
        if len(record.attempts) < 2:
            return
        tried = [a for a in record.attempts if a.outcome is not _SKIPPED]
        for before, after in pairwise(tried):
            if before.outcome is _ERROR and before.candidate != after.candidate:
                error = _text(before.error_class)
                self._failovers.add((before.candidate, after.candidate, error))

    def page(self) -> tuple[bytes, str]:
        """Return the body of `/metrics` and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE


def _text(value: StrEnum | None) -> str:
    """Return the text of a label. Enumerations take long to hash."""
    return "" if value is None else _plain_text(value)


_plain_text = str.__str__


class _Counters(Collector):
    """The series of counters that have the same labels, by the values of these."""

    def __init__(
        self, texts: Mapping[str, str], labels: Sequence[str], wall: Callable[[], float]
    ) -> None:
        """`texts` has the help of each counter by its name."""
        self._texts, self._labels, self._wall = texts, labels, wall
        self._values: dict[tuple[str, ...], list[float]] = {}
        self._created: dict[tuple[str, ...], float] = {}
        if not labels:
            self._start(())

    def add(self, labels: tuple[str, ...], amounts: Sequence[float] = _ONE) -> None:
        """Add an amount to each counter."""
        values = self._values.get(labels)
        if values is None:
            values = self._start(labels)
        for number, amount in enumerate(amounts):
            values[number] += amount

    def collect(self) -> Iterator[Metric]:
        for number, (name, text) in enumerate(self._texts.items()):
            metric = Metric(name, text, "counter")
            for labels, values in self._values.items():
                named = dict(zip(self._labels, labels, strict=True))
                metric.add_sample(f"{name}_total", named, values[number])
                metric.add_sample(f"{name}_created", named, self._created[labels])
            yield metric

    def _start(self, labels: tuple[str, ...]) -> list[float]:
        self._created[labels] = self._wall()
        values = self._values[labels] = [0.0] * len(self._texts)
        return values


@dataclass(slots=True)
class _Durations:
    created: float
    total_ms: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * len(_LIMITS))
    """By bucket; not cumulative."""


class _Histogram(Collector):
    """The series of a histogram of durations, by the values of their labels."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], wall: Callable[[], float]
    ) -> None:
        self._name, self._text, self._labels, self._wall = name, text, labels, wall
        self._series: dict[tuple[str, ...], _Durations] = {}
        if not labels:
            self._series[()] = _Durations(wall())

    def observe(self, labels: tuple[str, ...], milliseconds: int) -> None:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Durations(self._wall())
        series.counts[bisect_left(_BOUNDS_MS, milliseconds)] += 1
        series.total_ms += milliseconds

    def collect(self) -> Iterator[Metric]:
        metric = Metric(self._name, self._text, "histogram")
        for labels, series in self._series.items():
            named = dict(zip(self._labels, labels, strict=True))
            cumulative = [*accumulate(series.counts)]
            for limit, count in zip(_LIMITS, cumulative, strict=True):
                metric.add_sample(f"{self._name}_bucket", named | {"le": limit}, count)
            metric.add_sample(f"{self._name}_count", named, cumulative[-1])
            metric.add_sample(f"{self._name}_sum", named, series.total_ms / 1000)
            metric.add_sample(f"{self._name}_created", named, series.created)
        yield metric


class _Standings(Collector):
    """Reads the candidates' state at each scrape, so that it is never stale."""

    def __init__(self, read: ReadStandings, clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._read_at = clock()
        self._open = 0
        self._open_seconds = 0.0

    def collect(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "router_candidate_state",
            "0 closed, 1 half-open, 2 open",
            labels=("candidate", "scope"),
        )
        inflight = GaugeMetricFamily(
            "router_inflight", "Attempts running now", labels=("candidate",)
        )
        standings = tuple(self._read())
        for standing in standings:
            for scope, value in standing.states.items():
                state.add_metric((standing.candidate, scope), value)
            inflight.add_metric((standing.candidate,), standing.inflight)
        self._count_open(standings)
        yield state
        yield inflight
        yield CounterMetricFamily(
            "router_open_seconds",
            "Seconds that candidates were left out, summed over them, as seen at each reading",
            value=self._open_seconds,
        )

    def _count_open(self, standings: Iterable[CandidateGauges]) -> None:
        now = self._clock()
        self._open_seconds += self._open * (now - self._read_at)
        self._read_at = now
        self._open = sum(OPEN in standing.states.values() for standing in standings)
