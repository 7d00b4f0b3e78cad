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

Columns = dict[str, Sequence[object]]
"""The values of rows by their column, as many for each column."""

_FIELDS = AttemptRecord.__struct_fields__
_USAGE = ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens",
          "cache_write_tokens", "usage_source", "reported_cost_usd")  # fmt: skip
_BREAKER = ("breaker_scope", "breaker_before", "breaker_after", "breaker_hold_s")
_ENUM_FIELDS = ("role", "outcome", "phase", "next", "skip_reason", "error_class", "cost_source")
_FLAGS = ("committed", "reused_connection", "maybe_billed")
_CONVERTED = frozenset((*_ENUM_FIELDS, "usage", "breaker", "degraded"))
_LOGGED_ONLY = "bad_members"
_PLAIN = [name for name in _FIELDS if name not in _CONVERTED and name != _LOGGED_ONLY]
"""Fields of an AttemptRecord that are read without conversion."""

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


def reply_columns(records: Sequence[ReplyRecord]) -> Columns:
    """Return the columns of `replies` apart from `run`."""
    fields = _columns(ReplyRecord.__struct_fields__, records)
    return {
        **{name: fields[name] for name in _REPLY_PLAIN},
        "outcome": _builtin(fields["outcome"]),
        "offline_reason": _builtin(fields["offline_reason"]),
        "winner": [None if one.winner is None else one.winner.attempt for one in records],
        "channel": [one.origin.channel for one in records],
        "user": [one.origin.user for one in records],
        "order_name": [one.order_name or None for one in records],
    }


_REPLY_PLAIN = (
    "request_id",
    "ts",
    "sink",
    "retry_at",
    "t_first_visible_ms",
    "t_total_ms",
    "purpose",
)


def _columns(names: Sequence[str], records: Sequence[msgspec.Struct]) -> Columns:
    """Turn structs into columns: a loop of C for each struct, none of Python."""
    return dict(zip(names, zip(*map(msgspec.structs.astuple, records), strict=True), strict=False))


def _builtin(column: Sequence[object]) -> Sequence[object]:
    """Return a column of enumerations as text; for others the driver looks for an adapter."""
    built: Sequence[object] = msgspec.to_builtins(column)
    return built


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


def attempt_columns(records: Sequence[AttemptRecord]) -> Columns:
    """Return the columns of `attempts` apart from `run`."""
    fields = _columns(_FIELDS, records)
    columns = {name: fields[name] for name in _PLAIN}
    columns |= {name: _builtin(fields[name]) for name in _ENUM_FIELDS}
    columns |= {name: [*map(operator.pos, fields[name])] for name in _FLAGS}  # type: ignore[arg-type]
    columns["degraded"] = [
        msgspec.json.encode(one.degraded).decode() if one.degraded else "[]" for one in records
    ]
    columns |= _optional(_USAGE, [one.usage for one in records])
    columns["usage_source"] = _builtin(columns["usage_source"])
    columns |= _optional(_BREAKER, [one.breaker for one in records])
    columns["breaker_scope"] = _builtin(columns["breaker_scope"])
    return columns


def _optional(names: Sequence[str], structs: Sequence[msgspec.Struct | None]) -> Columns:
    """Turn structs into columns, which are empty in the rows without a struct."""
    nothing = (None,) * len(names)
    rows = [nothing if one is None else msgspec.structs.astuple(one) for one in structs]
    return dict(zip(names, zip(*rows, strict=True), strict=True))


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
