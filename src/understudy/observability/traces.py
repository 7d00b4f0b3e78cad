"""OpenTelemetry spans of replies: one parent, and below it one client span per attempt.

Spans are built from finished records and their times, so tracing adds no work to a reply's
path. The libraries are the extra `[otel]`, imported only when `telemetry.enabled` is set.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from understudy.config.settings import Telemetry
from understudy.errors import ConfigError
from understudy.llm.messages import Usage
from understudy.observability import semconv
from understudy.routing.records import AttemptRecord, Outcome, ReplyRecord

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

Attribute = str | int | float | bool | tuple[str, ...]


class Traces:
    """An observer; spans go to `provider`, which its opener shuts down."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        self._tracer = provider.get_tracer(
            "understudy", attributes={"semconv_rev": semconv.SEMCONV_REV}
        )
        self._kinds = SpanKind
        self._failed = Status(StatusCode.ERROR)
        self._with_parent = set_span_in_context

    def attempt_ended(self, record: AttemptRecord) -> None:
        """Spans need their parent, so `reply_ended` creates them."""

    def reply_ended(self, record: ReplyRecord) -> None:
        parent = self._tracer.start_span(
            semconv.PARENT_SPAN,
            kind=self._kinds.INTERNAL,
            start_time=_ns(record.ts),
            attributes=reply_attributes(record),
        )
        context = self._with_parent(parent)
        for attempt in record.attempts:
            if attempt.outcome is Outcome.SKIPPED:
                parent.add_event(
                    "router.skip",
                    {semconv.ROUTER_CANDIDATE: attempt.candidate, "reason": _skip(attempt)},
                    timestamp=_ns(attempt.ts),
                )
            else:
                self._attempt(attempt, context)
        if record.winner is None:
            parent.set_status(self._failed)
        parent.end(_ns(record.ts + record.t_total_ms / 1000))

    def _attempt(self, record: AttemptRecord, context: "Context") -> None:
        span = self._tracer.start_span(
            f"{semconv.CHAT} {record.model_requested}".strip(),
            context=context,
            kind=self._kinds.CLIENT,
            start_time=_ns(record.ts),
            attributes=attempt_attributes(record),
        )
        if record.outcome is Outcome.ERROR:
            span.set_status(self._failed)
        span.end(_ns(record.ts + record.t_total_ms / 1000))


def reply_attributes(record: ReplyRecord) -> dict[str, Attribute]:
    attributes: dict[str, Attribute | None] = {
        semconv.ROUTER_REQUEST_ID: record.request_id,
        semconv.ROUTER_SINK: record.sink,
        semconv.ROUTER_OUTCOME: record.outcome.value,
        semconv.ROUTER_OFFLINE_REASON: record.offline_reason and record.offline_reason.value,
        semconv.ROUTER_COST_USD: record.cost_usd,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def attempt_attributes(record: AttemptRecord) -> dict[str, Attribute]:
    breaker = record.breaker
    first = record.t_first_output_ms
    attributes: dict[str, Attribute | None] = {
        semconv.OPERATION_NAME: semconv.CHAT,
        semconv.PROVIDER_NAME: semconv.provider_name(record.engine),
        semconv.REQUEST_MODEL: record.model_requested or None,
        semconv.REQUEST_STREAM: True,
        semconv.OUTPUT_TYPE: "text",
        semconv.RESPONSE_ID: record.upstream_id,
        semconv.RESPONSE_MODEL: record.model_served,
        semconv.RESPONSE_FINISH_REASONS: _finish_reasons(record),
        semconv.TIME_TO_FIRST_CHUNK: None if first is None else first / 1000,
        semconv.ERROR_TYPE: record.error_class and record.error_class.value,
        semconv.SERVER_ADDRESS: record.endpoint_host,
        semconv.ROUTER_REQUEST_ID: record.request_id,
        semconv.ROUTER_ATTEMPT_INDEX: record.attempt,
        semconv.ROUTER_ATTEMPT_ROLE: record.role.value,
        semconv.ROUTER_CANDIDATE: record.candidate,
        semconv.ROUTER_OUTCOME: record.outcome.value,
        semconv.ROUTER_COMMITTED: record.committed,
        semconv.ROUTER_BREAKER_STATE: breaker.after if breaker else None,
        semconv.ROUTER_NEXT: record.next.value,
        semconv.ROUTER_COST_USD: record.cost_usd,
    }
    known = {name: value for name, value in attributes.items() if value is not None}
    return known | _usage_attributes(record.usage)


def _usage_attributes(usage: Usage | None) -> dict[str, Attribute]:
    if usage is None:
        return {}
    return {
        semconv.INPUT_TOKENS: usage.input_tokens,
        semconv.OUTPUT_TOKENS: usage.output_tokens,
        semconv.CACHE_READ_TOKENS: usage.cache_read_tokens,
        semconv.CACHE_WRITE_TOKENS: usage.cache_write_tokens,
        semconv.REASONING_TOKENS: usage.reasoning_tokens,
    }


@asynccontextmanager
async def open_traces(settings: Telemetry, version: str) -> AsyncGenerator[Traces]:
    """Send spans to `telemetry.endpoint`; the exit sends queued ones. Raises ConfigError where the
    extra is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError(
            "telemetry.enabled needs more packages: pip install -c constraints.txt '.[otel]'"
        ) from None
    provider = TracerProvider(
        resource=Resource.create({"service.name": "understudy", "service.version": version}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(settings.endpoint, timeout=settings.timeout_seconds)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield Traces(provider)
    finally:
        await asyncio.to_thread(provider.shutdown)


def _finish_reasons(record: AttemptRecord) -> tuple[str, ...] | None:
    if record.outcome is Outcome.ERROR and record.visible_chars:
        return ("error",)
    return None if record.finish_reason is None else (record.finish_reason,)


def _skip(record: AttemptRecord) -> str:
    return "" if record.skip_reason is None else record.skip_reason.value


def _ns(wall: float) -> int:
    return int(wall * 1e9)
