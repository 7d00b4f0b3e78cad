"""Converts attempt and reply records to rows and back."""

import operator
import sqlite3
from collections.abc import Sequence

import msgspec
from sqlalchemy import RowMapping

from understudy.errors import ErrorClass, HoldScope
from understudy.llm.client import Phase
from understudy.llm.messages import Usage, UsageSource
from understudy.routing.recorder import sum_usage
from understudy.routing.records import (
    AttemptRecord,
    AttemptRole,
    BreakerChange,
    CostSource,
    NextStep,
    OfflineReason,
    Origin,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
    SkipReason,
)

_PLAIN = [
    "ts",
    "request_id",
    "attempt",
    "of_max",
    "sink",
    "provider",
    "label",
    "engine",
    "endpoint_host",
    "key_ref",
    "model_requested",
    "model_served",
    "upstream_id",
    "http_status",
    "provider_code",
    "error_digest",
    "error_text",
    "retry_after_s",
    "committed",
    "visible_chars",
    "finish_reason",
    "t_queue_ms",
    "t_connect_ms",
    "t_headers_ms",
    "t_first_output_ms",
    "t_first_visible_ms",
    "t_total_ms",
    "budget_ms",
    "reused_connection",
    "keepalives",
    "bad_frames",
    "max_gap_ms",
    "cost_usd",
    "maybe_billed",
    "images",
    "held_until",
    "config_rev",
]
"""Fields of an AttemptRecord that are columns without conversion."""
_plain = operator.attrgetter(*_PLAIN)

_ENUMS: tuple[type[str], ...] = (
    AttemptRole,
    CostSource,
    ErrorClass,
    HoldScope,
    NextStep,
    OfflineReason,
    Outcome,
    Phase,
    ReplyOutcome,
    SkipReason,
    UsageSource,
)
for _enum in _ENUMS:
    # Else the driver looks for an adapter of each value: see `sqlite_database`.
    sqlite3.register_adapter(_enum, str.__str__)


def reply_row(record: ReplyRecord) -> dict[str, object]:
    return {
        "request_id": record.request_id,
        "ts": record.ts,
        "sink": record.sink,
        "outcome": record.outcome,
        "offline_reason": record.offline_reason,
        "retry_at": record.retry_at,
        "winner": None if record.winner is None else record.winner.attempt,
        "t_first_visible_ms": record.t_first_visible_ms,
        "t_total_ms": record.t_total_ms,
        "channel": record.origin.channel,
        "user": record.origin.user,
        "purpose": record.purpose,
        "order_name": record.order_name or None,
    }


def reply_of(row: RowMapping, attempts_of: Sequence[AttemptRecord]) -> ReplyRecord:
    reason = row["offline_reason"]
    return ReplyRecord(
        ts=row["ts"],
        request_id=row["request_id"],
        sink=row["sink"],
        outcome=ReplyOutcome(row["outcome"]),
        attempts=tuple(attempts_of),
        winner=next((a for a in attempts_of if a.attempt == row["winner"]), None),
        offline_reason=None if reason is None else OfflineReason(reason),
        retry_at=row["retry_at"],
        t_first_visible_ms=row["t_first_visible_ms"],
        t_total_ms=row["t_total_ms"],
        usage=sum_usage(attempts_of),
        origin=Origin(row["channel"], row["user"]),
        purpose=row["purpose"],
        order_name=row["order_name"] or "",
    )


_CONVERTED = (
    "run",
    "role",
    "outcome",
    "phase",
    "next",
    "skip_reason",
    "error_class",
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "usage_source",
    "reported_cost_usd",
    "cost_source",
    "degraded",
    "breaker_scope",
    "breaker_before",
    "breaker_after",
    "breaker_hold_s",
)
ATTEMPT_COLUMNS = (*_PLAIN, *_CONVERTED)
_usage_figures = operator.attrgetter(
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "source",
    "cost_usd",
)
_change = operator.attrgetter("scope", "before", "after", "hold_s")


def attempt_row(record: AttemptRecord, run: int) -> tuple[object, ...]:
    """The values of `ATTEMPT_COLUMNS`."""
    usage, breaker, degraded = record.usage, record.breaker, record.degraded
    return (
        *_plain(record),
        run,
        record.role,
        record.outcome,
        record.phase,
        record.next,
        record.skip_reason,
        record.error_class,
        *((None,) * 7 if usage is None else _usage_figures(usage)),
        record.cost_source,
        msgspec.json.encode(degraded).decode() if degraded else "[]",
        *((None,) * 4 if breaker is None else _change(breaker)),
    )


def attempt_of(row: RowMapping) -> AttemptRecord:
    skip, error = row["skip_reason"], row["error_class"]
    return AttemptRecord(
        **{name: row[name] for name in _PLAIN},
        role=AttemptRole(row["role"]),
        outcome=Outcome(row["outcome"]),
        phase=Phase(row["phase"]),
        next=NextStep(row["next"]),
        skip_reason=None if skip is None else SkipReason(skip),
        error_class=None if error is None else ErrorClass(error),
        usage=_usage(row),
        cost_source=CostSource(row["cost_source"]),
        degraded=msgspec.json.decode(row["degraded"], type=tuple[str, ...]),
        breaker=_breaker(row),
    )


def _usage(row: RowMapping) -> Usage | None:
    if row["usage_source"] is None:
        return None
    return Usage(
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        cache_read_tokens=row["cache_read_tokens"],
        cache_write_tokens=row["cache_write_tokens"],
        source=UsageSource(row["usage_source"]),
        cost_usd=row["reported_cost_usd"],
    )


def _breaker(row: RowMapping) -> BreakerChange | None:
    if row["breaker_scope"] is None:
        return None
    return BreakerChange(
        HoldScope(row["breaker_scope"]),
        row["breaker_before"],
        row["breaker_after"],
        row["breaker_hold_s"],
    )
