"""Spans as a loopback collector receives them."""

import gzip
import json
import subprocess
import sys
from collections.abc import AsyncGenerator

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sample_records import NOON, answered, failed, reply, skipped
from understudy.config.settings import Telemetry
from understudy.errors import ErrorClass, HoldScope
from understudy.observability.traces import open_traces
from understudy.routing.records import BreakerChange, OfflineReason, ReplyRecord, SkipReason

GONE = ("gen_ai.system", "gen_ai.prompt", "gen_ai.completion", "prompt_tokens", "completion_tokens")


class Collector:
    """An OTLP/HTTP collector that stores what it receives."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append(body)
        sent = ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return web.Response(body=b"", content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncGenerator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}/v1/traces"
    yield collector
    await runner.cleanup()


async def send(collector: Collector, record: ReplyRecord) -> None:
    settings = Telemetry(enabled=True, endpoint=collector.url)
    async with open_traces(settings, "1.2.3") as traces:
        traces.reply_ended(record)


def attributes(span: Span) -> dict[str, object]:
    found: dict[str, object] = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [v.string_value for v in value.values] if kind == "array_value" else value
    return found


async def test_a_reply_is_one_parent_with_one_client_span_per_attempt(
    collector: Collector,
) -> None:
    limited = failed(
        "chutes",
        ErrorClass.RATE_LIMITED,
        engine="chutes",
        breaker=BreakerChange(HoldScope.KEY, "closed", "open", 30.0),
    )
    won = answered(
        "local",
        engine="llama.cpp",
        attempt=3,
        ts=NOON + 0.5,
        model_requested="tiny",
        upstream_id="gen-1",
    )
    await send(collector, reply(limited, skipped("openrouter", SkipReason.NO_KEY, attempt=2), won))

    by_name = {span.name: span for span in collector.spans}
    parent = by_name["router.chat"]
    assert set(by_name) == {"router.chat", "chat lab/model", "chat tiny"}
    assert parent.kind == Span.SPAN_KIND_INTERNAL
    assert attributes(parent) == {
        "router.request.id": "r1",
        "router.sink": "discord",
        "router.outcome": "delivered",
        "router.cost_usd": 0.25,
    }
    assert [event.name for event in parent.events] == ["router.skip"]
    assert {by_name[n].parent_span_id for n in ("chat lab/model", "chat tiny")} == {parent.span_id}
    answer = by_name["chat tiny"]
    assert answer.kind == Span.SPAN_KIND_CLIENT
    assert answer.start_time_unix_nano == int((NOON + 0.5) * 1e9)
    assert answer.end_time_unix_nano == int((NOON + 1.8) * 1e9)
    assert attributes(answer) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "llama_cpp",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.stream": True,
        "gen_ai.output.type": "text",
        "gen_ai.response.id": "gen-1",
        "gen_ai.response.model": "lab/model-2026",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.18,
        "gen_ai.usage.input_tokens": 412,
        "gen_ai.usage.output_tokens": 57,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_write.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "server.address": "127.0.0.1",
        "router.request.id": "r1",
        "router.attempt.index": 3,
        "router.attempt.role": "normal",
        "router.candidate": "local/tiny",
        "router.outcome": "ok",
        "router.committed": True,
        "router.next": "deliver",
        "router.cost_usd": 0.25,
    }
    failure = attributes(by_name["chat lab/model"])
    assert failure["error.type"] == "rate_limited"
    assert failure["router.breaker.state"] == "open"
    assert by_name["chat lab/model"].status.code == 2
    assert not any(name in key for s in collector.spans for key in attributes(s) for name in GONE)


async def test_an_offline_reply_is_an_error_with_its_reason(collector: Collector) -> None:
    await send(
        collector,
        reply(
            failed("local", ErrorClass.TRUNCATED_STREAM, visible_chars=7),
            offline_reason=OfflineReason.ALL_DOWN,
        ),
    )

    parent = next(span for span in collector.spans if span.name == "router.chat")
    child = next(span for span in collector.spans if span.name != "router.chat")
    assert parent.status.code == 2
    assert attributes(parent)["router.offline_reason"] == "all_down"
    assert attributes(child)["gen_ai.response.finish_reasons"] == ["error"]


@pytest.mark.slow
def test_the_libraries_are_not_imported_unless_traces_are_opened() -> None:
    code = (
        "import sys, json, understudy.observability.traces;"
        "print(json.dumps([m for m in sys.modules if m.startswith('opentelemetry')]))"
    )

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout

    assert json.loads(out) == []
