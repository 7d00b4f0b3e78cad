"""The log events of observability: names, levels and flat fields.

An interface: docs/observability.md lists them and tests compare whole events.

A field without a value is omitted. No field holds a prompt, a reply, a key, a user's
name or id, or a server's own words (`error_text` apart, which is off by default).
"""

from datetime import UTC, datetime
from functools import lru_cache
from math import floor
from typing import Final

import msgspec

from understudy.errors import ErrorClass
from understudy.llm.messages import Usage
from understudy.routing.records import (
    AttemptRecord,
    BreakerChange,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
    describe_route,
)

ATTEMPT: Final = "provider.attempt"
REPLY: Final = "reply.ended"
ALERT: Final = "operator.alert"
LEDGER_BEHIND: Final = "ledger.behind"
LEDGER_LOST: Final = "ledger.lost"
PROMPTS_LOGGED: Final = "prompts.logged"
PROMPTS_LOST: Final = "prompts.lost"
LINES_DROPPED: Final = "log.lines_dropped"

Field = str | int | float | bool
"""The type of a log field."""

TELLING: Final = {
    ATTEMPT: (
        "candidate",
        "request_id",
        "attempt",
        "role",
        "outcome",
        "error_class",
        "http_status",
        "error_text",
        "skip_reason",
        "t_total_ms",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "held_until",
        "next",
    ),
    REPLY: (
        "request_id",
        "outcome",
        "route",
        "t_first_visible_ms",
        "cost_usd",
        "offline_reason",
        "retry_at",
    ),
}
"""The fields shown on a terminal; JSON lines have all of them."""

# A member of an enumeration costs ten times as much to look up as a name of a module.
_OK, _ERROR, _SKIPPED = Outcome.OK, Outcome.ERROR, Outcome.SKIPPED
_QUIET = (ReplyOutcome.DELIVERED, ReplyOutcome.CANCELLED)

PLAIN_FIELDS = AttemptRecord.__struct_fields__[2:-5]
"""Fields of an AttemptRecord that are logged unchanged."""


def read_plain(record: AttemptRecord) -> tuple[Field | None, ...]:
    """Return the values of `PLAIN_FIELDS`."""
    values: tuple[Field | None, ...] = msgspec.structs.astuple(record)[2:-5]
    return values


_THOUSANDTHS = [f"{number:03d}" for number in range(1000)]
_MOST_TIMES = 1000
_times: dict[int, str] = {}
"""Recent times without their zone, by their milliseconds since the epoch."""


def iso(wall: float) -> str:
    """Return a wall clock time in UTC, with milliseconds."""
    milliseconds = floor(wall * 1000)
    return (_times.get(milliseconds) or _format(milliseconds)) + "Z"


def iso_precise(wall: float) -> str:
    """Return a wall clock time in UTC, with microseconds."""
    milliseconds, rest = divmod(floor(wall * 1_000_000), 1000)
    return f"{_times.get(milliseconds) or _format(milliseconds)}{_THOUSANDTHS[rest]}Z"


def _format(milliseconds: int) -> str:
    if len(_times) >= _MOST_TIMES:
        _times.clear()
    seconds, rest = divmod(milliseconds, 1000)
    text = _times[milliseconds] = f"{_second(seconds)}.{_THOUSANDTHS[rest]}"
    return text


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:-6]


def attempt_fields(record: AttemptRecord) -> dict[str, Field]:
    told: dict[str, Field | None] = {"started": iso(record.ts), "candidate": record.candidate}
    told.update(zip(PLAIN_FIELDS, read_plain(record), strict=True))
    told |= _usage_fields(record.usage, record.cost_usd)
    if record.cost_usd is not None:
        told["cost_source"] = record.cost_source
    if record.degraded:
        told["degraded"] = ",".join(record.degraded)
    if record.held_until is not None:
        told["held_until"] = iso(record.held_until)
    if record.breaker is not None:
        told |= breaker_fields(record.breaker)
    return _said(told)


def reply_fields(record: ReplyRecord) -> dict[str, Field]:
    told = dict(zip(REPLY_FIELDS, reply_values(record), strict=True))
    told |= _usage_fields(record.usage, record.cost_usd)
    return _said(told)


REPLY_FIELDS: Final = (
    "started",
    "request_id",
    "sink",
    "outcome",
    "offline_reason",
    "retry_at",
    "provider",
    "model",
    "attempts",
    "skipped",
    "route",
    "t_first_visible_ms",
    "t_total_ms",
)


def reply_values(record: ReplyRecord) -> tuple[Field | None, ...]:
    """Return the values of `REPLY_FIELDS`; those of the usage follow them in a line."""
    winner, attempts = record.winner, record.attempts
    skipped = 0
    if len(attempts) > 1:
        skipped = len([a for a in attempts if a.outcome is _SKIPPED])
    return (
        iso(record.ts),
        record.request_id,
        record.sink,
        record.outcome,
        record.offline_reason,
        None if record.retry_at is None else iso(record.retry_at),
        winner.provider if winner else None,
        (winner.model_served or winner.model_requested) if winner else None,
        len(attempts) - skipped,
        skipped,
        describe_route(attempts),
        record.t_first_visible_ms,
        record.t_total_ms,
    )


def attempt_level(record: AttemptRecord) -> str:
    """`error` only for our own bugs: failures of servers are expected."""
    if record.outcome is _OK:
        return "info"
    if record.error_class is ErrorClass.INTERNAL:
        return "error"
    if record.outcome is _SKIPPED:
        return "debug"
    return "warning" if record.outcome is _ERROR else "info"


def reply_level(record: ReplyRecord) -> str:
    return "info" if record.outcome in _QUIET else "warning"


def _usage_fields(usage: Usage | None, cost_usd: float | None) -> dict[str, Field | None]:
    if usage is None:
        return {"cost_usd": cost_usd}
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "usage_source": usage.source,
        "cost_usd": cost_usd,
    }


def breaker_fields(change: BreakerChange) -> dict[str, Field | None]:
    return {
        "breaker_scope": change.scope,
        "breaker_before": change.before,
        "breaker_after": change.after,
        "breaker_hold_s": change.hold_s,
    }


def _said(told: dict[str, Field | None]) -> dict[str, Field]:
    return {name: value for name, value in told.items() if value is not None}
