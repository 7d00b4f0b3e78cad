"""Made-up attempt and reply records, for tests of whatever reads records."""

from understudy.errors import ErrorClass
from understudy.llm.client import Phase
from understudy.llm.messages import Usage
from understudy.routing.recorder import sum_usage
from understudy.routing.records import (
    AttemptRecord,
    AttemptRole,
    CostSource,
    NextStep,
    Origin,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
    SkipReason,
)

NOON = 1_790_000_000.0
"""2026-09-21 14:13:20 UTC."""


def attempt(provider: str = "openrouter", /, **fields: object) -> AttemptRecord:
    base: dict[str, object] = {
        "ts": NOON,
        "request_id": "r1",
        "attempt": 1,
        "of_max": 3,
        "sink": "discord",
        "provider": provider,
        "label": provider,
        "engine": "openrouter",
        "endpoint_host": "127.0.0.1",
        "key_ref": "OPENROUTER_API_KEY",
        "model_requested": "lab/model",
        "role": AttemptRole.NORMAL,
        "outcome": Outcome.OK,
        "phase": Phase.DONE,
        "next": NextStep.DELIVER,
        "t_total_ms": 1300,
        "budget_ms": 20000,
        "config_rev": "c1",
    }
    return AttemptRecord(**(base | fields))  # type: ignore[arg-type]


def answered(provider: str = "openrouter", /, **fields: object) -> AttemptRecord:
    base: dict[str, object] = {
        "model_served": "lab/model-2026",
        "http_status": 200,
        "committed": True,
        "visible_chars": 200,
        "finish_reason": "stop",
        "t_connect_ms": 3,
        "t_headers_ms": 41,
        "t_first_output_ms": 180,
        "t_first_visible_ms": 190,
        "usage": Usage(412, 57, reasoning_tokens=5, cache_read_tokens=100),
        "cost_usd": 0.25,
        "cost_source": CostSource.REPORTED,
    }
    return attempt(provider, **(base | fields))


def failed(provider: str, error_class: ErrorClass, **fields: object) -> AttemptRecord:
    base: dict[str, object] = {
        "outcome": Outcome.ERROR,
        "phase": Phase.HEADERS,
        "next": NextStep.FAILOVER,
        "error_class": error_class,
        "t_total_ms": 80,
    }
    return attempt(provider, **(base | fields))


def skipped(provider: str, reason: SkipReason, **fields: object) -> AttemptRecord:
    base: dict[str, object] = {
        "outcome": Outcome.SKIPPED,
        "phase": Phase.QUEUE,
        "next": NextStep.FAILOVER,
        "skip_reason": reason,
        "t_total_ms": 0,
        "budget_ms": 0,
    }
    return attempt(provider, **(base | fields))


def reply(*attempts: AttemptRecord, **fields: object) -> ReplyRecord:
    winner = next((a for a in attempts if a.outcome is Outcome.OK), None)
    base: dict[str, object] = {
        "ts": NOON,
        "request_id": "r1",
        "sink": "discord",
        "outcome": ReplyOutcome.DELIVERED if winner else ReplyOutcome.OFFLINE,
        "attempts": attempts,
        "winner": winner,
        "t_first_visible_ms": 290 if winner else None,
        "t_total_ms": 1400,
        "usage": sum_usage(attempts),
        "origin": Origin("discord:c1", "discord:u1"),
    }
    return ReplyRecord(**(base | fields))  # type: ignore[arg-type]
