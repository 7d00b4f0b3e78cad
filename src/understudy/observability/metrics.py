"""Prometheus series about attempts and replies.

Labels come from the configuration and from our own enumerations only: never a user, a channel, a
client's model name or a server's words, so their number is bounded by the configuration.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from understudy.llm.messages import Usage, UsageSource
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


class Metrics:
    """An observer that counts attempts and replies, and the page that shows them."""

    def __init__(
        self,
        standings: ReadStandings = _nothing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        registry = self.registry = CollectorRegistry()
        registry.register(_Standings(standings, clock))
        # Looking up a label costs more than counting, so each is looked up once.
        self._attempts = cache(
            Counter(
                "router_attempts",
                "Attempts that have ended, skips excluded",
                ("candidate", "outcome", "error_class", "role"),
                registry=registry,
            ).labels
        )
        self._skips = cache(
            Counter(
                "router_skips", "Candidates left out", ("candidate", "reason"), registry=registry
            ).labels
        )
        self._requests = cache(
            Counter(
                "router_requests",
                "Replies that have ended",
                ("sink", "outcome"),
                registry=registry,
            ).labels
        )
        self._failovers = cache(
            Counter(
                "router_failovers",
                "Times a candidate took over from one that failed",
                ("from", "to", "error_class"),
                registry=registry,
            ).labels
        )
        self._first_visible = Histogram(
            "router_time_to_first_visible_seconds",
            "From the accepted request to the first visible text",
            buckets=DURATIONS,
            registry=registry,
        )
        self._idle_gap = Histogram(
            "router_idle_gap_seconds",
            "Longest silence of each attempt",
            buckets=DURATIONS,
            registry=registry,
        )
        self._queue = Histogram(
            "router_queue_seconds",
            "Wait for a free place at the candidate",
            buckets=DURATIONS,
            registry=registry,
        )
        self._cost = Counter(
            "router_cost_usd", "Cost as far as it is known, in US dollars", registry=registry
        )
        self._estimated = Counter(
            "router_tokens_estimated", "Tokens that no server reported", registry=registry
        )
        self._genai = _GenAiSeries(registry)

    def attempt_ended(self, record: AttemptRecord) -> None:
        if record.outcome is Outcome.SKIPPED:
            self._skips(record.candidate, record.skip_reason or "").inc()
            return
        self._attempts(
            record.candidate, record.outcome, record.error_class or "", record.role
        ).inc()
        self._idle_gap.observe(record.max_gap_ms / 1000)
        self._queue.observe(record.t_queue_ms / 1000)
        self._cost.inc(record.cost_usd or 0.0)
        usage = record.usage
        if usage is not None and usage.source is UsageSource.ESTIMATED:
            self._estimated.inc(usage.input_tokens + usage.output_tokens)
        self._genai.attempt_ended(record)

    def reply_ended(self, record: ReplyRecord) -> None:
        self._requests(record.sink, record.outcome).inc()
        if record.t_first_visible_ms is not None:
            self._first_visible.observe(record.t_first_visible_ms / 1000)
        tried = [a for a in record.attempts if a.outcome is not Outcome.SKIPPED]
        for before, after in pairwise(tried):
            if before.outcome is Outcome.ERROR and before.candidate != after.candidate:
                self._failovers(before.candidate, after.candidate, before.error_class or "").inc()

    def page(self) -> tuple[bytes, str]:
        """Return the body of `/metrics` and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE


class _GenAiSeries:
    """The GenAI conventions' own series, as Prometheus spells them; once per attempt."""

    def __init__(self, registry: CollectorRegistry) -> None:
        who = ("gen_ai_provider_name", "gen_ai_request_model")
        self._duration = cache(
            Histogram(
                "gen_ai_client_inference_duration_seconds",
                "From sending an attempt to its end",
                (*who, "error_type"),
                buckets=DURATIONS,
                registry=registry,
            ).labels
        )
        self._first_chunk = cache(
            Histogram(
                "gen_ai_client_inference_time_to_first_chunk_seconds",
                "From sending an attempt to its first output",
                who,
                buckets=DURATIONS,
                registry=registry,
            ).labels
        )
        self._tokens = {
            read: cache(
                Counter(
                    f"gen_ai_client_inference_usage_{kind}_tokens",
                    f"{kind.replace('_', ' ').capitalize()} tokens, discarded replies included",
                    (*who, "gen_ai_token_modality"),
                    registry=registry,
                ).labels
            )
            for kind, read in _TOKENS.items()
        }

    def attempt_ended(self, record: AttemptRecord) -> None:
        who = (provider_name(record.engine), record.model_requested)
        self._duration(*who, record.error_class or "").observe(record.t_total_ms / 1000)
        if record.t_first_output_ms is not None:
            self._first_chunk(*who).observe(record.t_first_output_ms / 1000)
        modality = "text" if record.usage is not None and not record.images else "unknown"
        for read, counter in self._tokens.items():
            counter(*who, modality).inc(read(record.usage) if record.usage else 0)


_TOKENS: dict[str, Callable[[Usage], int]] = {
    "input": lambda usage: usage.input_tokens,
    "output": lambda usage: usage.output_tokens,
    "reasoning_output": lambda usage: usage.reasoning_tokens,
    "cache_read_input": lambda usage: usage.cache_read_tokens,
    "cache_write_input": lambda usage: usage.cache_write_tokens,
}


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
