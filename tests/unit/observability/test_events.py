"""Log events are an interface: whole events are compared."""

import pytest
from structlog.testing import capture_logs

from sample_records import answered, attempt, failed, reply, skipped
from understudy.errors import ErrorClass, HoldScope
from understudy.llm.client import Phase
from understudy.observability.record_log import LogObserver
from understudy.routing.records import (
    AttemptRecord,
    BreakerChange,
    OfflineReason,
    Origin,
    Outcome,
    ReplyRecord,
    SkipReason,
)


def logged(record: AttemptRecord | ReplyRecord) -> dict[str, object]:
    with capture_logs() as events:
        if isinstance(record, AttemptRecord):
            LogObserver().attempt_ended(record)
        else:
            LogObserver().reply_ended(record)
    assert len(events) == 1
    return dict(events[0])


def test_an_attempt_that_answered_tells_its_times_tokens_and_cost() -> None:
    assert logged(answered()) == {
        "event": "provider.attempt",
        "log_level": "info",
        "started": "2026-09-21T14:13:20.000Z",
        "request_id": "r1",
        "attempt": 1,
        "of_max": 3,
        "sink": "discord",
        "candidate": "openrouter/lab/model",
        "provider": "openrouter",
        "engine": "openrouter",
        "endpoint_host": "127.0.0.1",
        "key_ref": "OPENROUTER_API_KEY",
        "model_requested": "lab/model",
        "model_served": "lab/model-2026",
        "role": "normal",
        "outcome": "ok",
        "phase": "done",
        "next": "deliver",
        "http_status": 200,
        "committed": True,
        "visible_chars": 200,
        "finish_reason": "stop",
        "t_queue_ms": 0,
        "t_connect_ms": 3,
        "t_headers_ms": 41,
        "t_first_output_ms": 180,
        "t_first_visible_ms": 190,
        "t_total_ms": 1300,
        "budget_ms": 20000,
        "reused_connection": False,
        "keepalives": 0,
        "bad_frames": 0,
        "bad_members": 0,
        "max_gap_ms": 0,
        "input_tokens": 412,
        "output_tokens": 57,
        "reasoning_tokens": 5,
        "cache_read_tokens": 100,
        "cache_write_tokens": 0,
        "usage_source": "reported",
        "cost_usd": 0.25,
        "cost_source": "reported",
        "maybe_billed": False,
        "images": 0,
        "config_rev": "c1",
    }


def test_a_failed_attempt_tells_why_and_what_it_did_to_the_cooldown() -> None:
    record = failed(
        "chutes",
        ErrorClass.RATE_LIMITED,
        http_status=429,
        provider_code="capacity",
        error_digest="0a1b2c3d",
        retry_after_s=30.0,
        breaker=BreakerChange(HoldScope.KEY, "closed", "open", 30.0),
        held_until=1_790_000_030.0,
        degraded=("images",),
        images=1,
    )

    assert logged(record) == {
        "event": "provider.attempt",
        "log_level": "warning",
        "started": "2026-09-21T14:13:20.000Z",
        "request_id": "r1",
        "attempt": 1,
        "of_max": 3,
        "sink": "discord",
        "candidate": "chutes/lab/model",
        "provider": "chutes",
        "engine": "openrouter",
        "endpoint_host": "127.0.0.1",
        "key_ref": "OPENROUTER_API_KEY",
        "model_requested": "lab/model",
        "role": "normal",
        "outcome": "error",
        "error_class": "rate_limited",
        "http_status": 429,
        "provider_code": "capacity",
        "error_digest": "0a1b2c3d",
        "retry_after_s": 30.0,
        "phase": "headers",
        "next": "failover",
        "committed": False,
        "visible_chars": 0,
        "t_queue_ms": 0,
        "t_total_ms": 80,
        "budget_ms": 20000,
        "reused_connection": False,
        "keepalives": 0,
        "bad_frames": 0,
        "bad_members": 0,
        "max_gap_ms": 0,
        "maybe_billed": False,
        "images": 1,
        "degraded": "images",
        "breaker_scope": "K",
        "breaker_before": "closed",
        "breaker_after": "open",
        "breaker_hold_s": 30.0,
        "held_until": "2026-09-21T14:13:50.000Z",
        "config_rev": "c1",
    }


def test_a_reply_tells_its_route_and_sums_and_nobodys_name() -> None:
    record = reply(
        failed("openrouter", ErrorClass.RATE_LIMITED),
        skipped("chutes", SkipReason.NO_KEY),
        answered("local", label="local/koboldcpp"),
        origin=Origin("discord:CHANNEL", "discord:USER"),
    )

    assert logged(record) == {
        "event": "reply.ended",
        "log_level": "info",
        "started": "2026-09-21T14:13:20.000Z",
        "request_id": "r1",
        "sink": "discord",
        "outcome": "delivered",
        "provider": "local",
        "model": "lab/model-2026",
        "attempts": 2,
        "skipped": 1,
        "route": "rate-limited: openrouter · no key: chutes · "
        "answered: local/koboldcpp, 1.3 s, 412→57 tokens",
        "t_first_visible_ms": 290,
        "t_total_ms": 1400,
        "input_tokens": 412,
        "output_tokens": 57,
        "reasoning_tokens": 5,
        "cache_read_tokens": 100,
        "cache_write_tokens": 0,
        "usage_source": "reported",
        "cost_usd": 0.25,
    }


def test_an_offline_reply_tells_its_reason_and_when_to_expect_better() -> None:
    record = reply(
        failed("openrouter", ErrorClass.RATE_LIMITED),
        offline_reason=OfflineReason.ALL_RATE_LIMITED,
        retry_at=1_790_000_030.0,
    )

    assert logged(record) == {
        "event": "reply.ended",
        "log_level": "warning",
        "started": "2026-09-21T14:13:20.000Z",
        "request_id": "r1",
        "sink": "discord",
        "outcome": "offline",
        "offline_reason": "all_rate_limited",
        "retry_at": "2026-09-21T14:13:50.000Z",
        "attempts": 1,
        "skipped": 0,
        "route": "rate-limited: openrouter",
        "t_total_ms": 1400,
    }


@pytest.mark.parametrize(
    ("record", "level"),
    [
        (skipped("local", SkipReason.COOLDOWN), "debug"),
        (attempt(outcome=Outcome.CANCELLED, phase=Phase.STREAMING), "info"),
        (failed("local", ErrorClass.INTERNAL), "error"),
    ],
    ids=["left out", "stopped by its person", "our own bug"],
)
def test_the_level_tells_whether_anyone_need_look(record: AttemptRecord, level: str) -> None:
    assert logged(record)["log_level"] == level
