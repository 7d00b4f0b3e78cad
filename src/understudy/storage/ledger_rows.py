"""Converts attempt and reply records to rows and back; the only SQL that does."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Row,
    RowMapping,
    and_,
    bindparam,
    column,
    func,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSON, Insert, insert
from sqlalchemy.sql.dml import ReturningInsert

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
from understudy.storage.statements import Statement, positional
from understudy.storage.tables import attempts, replies

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
_RUNS = select(replies.c.request_id, replies.c.ts, replies.c.run).where(
    replies.c.request_id.in_(bindparam("ids", expanding=True))
)
_RUNS_OF_ONE = Statement(
    select(replies.c.request_id, replies.c.ts, replies.c.run).where(
        replies.c.request_id == bindparam("id")
    )
)
_STEPS = (64, 8, 2, 1)
"""Rows per statement. Few sizes, because each has a prepared statement of its own. SQLite accepts
at most 32,766 values in one statement."""
_VALUES = re.compile(r"(?<=VALUES )(\([^()]*\))")
_ADD_REPLIES = (
    insert(replies)
    .on_conflict_do_nothing()
    .returning(replies.c.request_id, replies.c.ts, replies.c.run)
)
_ADD_ATTEMPTS = insert(attempts).on_conflict_do_nothing()

_rows = func.json_to_recordset(bindparam("rows", type_=JSON)).table_valued(
    *(column(name, one.type) for name, one in attempts.c.items()), name="given"
)
# psycopg parses a statement with more than 50 parameters each time.
_ADD_ATTEMPTS_AS_JSON = Statement(
    insert(attempts)
    .from_select(list(attempts.c.keys()), select(_rows.render_derived(with_types=True)))
    .on_conflict_do_nothing()
)


def insert_replies(connection: Connection, records: Iterable[ReplyRecord]) -> None:
    """Store replies with their attempts; rows that are stored already do not change.

    Two records may describe the same run: the router's, and the conversation's when it was
    interrupted. The first is stored, and attempts that only the second has are added to it.
    """
    records = tuple(records)
    stored = _runs(connection, records)
    seen = {request_id for request_id, _ in stored}
    # Nearly all are new; one statement for all of them costs a fraction of one for each.
    fresh: list[ReplyRecord] = []
    repeated: list[ReplyRecord] = []
    for record in records:
        (repeated if record.request_id in seen else fresh).append(record)
        seen.add(record.request_id)
    if fresh:
        named = [_reply_row(record) for record in fresh]
        rows = [tuple(row.values()) for row in named]
        added = _insert_rows(connection, _ADD_REPLIES, tuple(named[0]), rows)
        if len(added) < len(fresh):
            # Another process stored some of them meanwhile.
            stored |= _runs(connection, fresh)
        stored |= {(row.request_id, row.ts): row.run for row in added}
    known = [(stored[key], r) for r in (*fresh, *repeated) if (key := _key(r)) in stored]
    _insert_attempts(connection, known)
    for record in repeated:
        if _key(record) not in stored:
            _insert_attempts(connection, [(_run_of(connection, record), record)])


def _key(record: ReplyRecord) -> tuple[str, float]:
    return record.request_id, record.ts


def _runs(connection: Connection, records: Iterable[ReplyRecord]) -> dict[tuple[str, float], int]:
    """The stored runs of these replies, by the reply's id and time."""
    ids = [record.request_id for record in records]
    if len(ids) == 1:
        found = _RUNS_OF_ONE.run(connection, {"id": ids[0]}).mappings().all()
    else:
        found = connection.execute(_RUNS, {"ids": ids}).mappings().all()
    return {(row["request_id"], row["ts"]): row["run"] for row in found}


def _insert_attempts(connection: Connection, runs: Iterable[tuple[int, ReplyRecord]]) -> None:
    rows = [_attempt_row(attempt, run) for run, record in runs for attempt in record.attempts]
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        named = [dict(zip(_ATTEMPT_COLUMNS, row, strict=True)) for row in rows]
        _ADD_ATTEMPTS_AS_JSON.run(connection, {"rows": _json(named)})
    else:
        _insert_rows(connection, _ADD_ATTEMPTS, _ATTEMPT_COLUMNS, rows)


def _json(rows: Sequence[Mapping[str, object]]) -> str:
    text = msgspec.json.encode(rows).decode()
    if "\\u0000" in text:
        # PostgreSQL refuses NUL in texts.
        text = msgspec.json.encode([_without_nul(row) for row in rows]).decode()
    return text


def _without_nul(row: Mapping[str, object]) -> dict[str, object]:
    return {
        name: value.replace("\0", "\ufffd") if isinstance(value, str) else value
        for name, value in row.items()
    }


def _insert_rows(
    connection: Connection,
    statement: Insert | ReturningInsert[*tuple[object, ...]],
    columns: tuple[str, ...],
    rows: Sequence[tuple[object, ...]],
) -> list[Row[*tuple[object, ...]]]:
    """Insert rows of plain values, in the order of `columns`; what the statement returns.

    SQLAlchemy processes each value of each row, which takes longer than SQLite takes to store it;
    so SQLAlchemy compiles the statement, and the values go to the driver directly. Each statement
    holds many rows: the driver releases the interpreter lock for each statement, and then has to
    wait for the event loop to reacquire it.
    """
    done = 0
    returned: list[Row[*tuple[object, ...]]] = []
    for size in _STEPS:
        while len(rows) - done >= size:
            text, in_order = _compiled(statement, connection.dialect, columns, size)
            values = chain.from_iterable(map(in_order, rows[done : done + size]))
            result = connection.exec_driver_sql(text, tuple(values))
            if result.returns_rows:
                returned += result.all()
            done += size
    return returned


@cache
def _compiled(
    statement: Insert | ReturningInsert[*tuple[object, ...]],
    dialect: Dialect,
    columns: tuple[str, ...],
    count: int,
) -> tuple[str, Callable[[tuple[object, ...]], tuple[object, ...]]]:
    """The SQL for `count` rows, and a function that puts a row's values in the SQL's order."""
    text, order = positional(statement.compile(dialect=dialect, column_keys=columns))
    head, values, rest = _VALUES.split(text, maxsplit=1)
    in_order = operator.itemgetter(*map(columns.index, order))
    return f"{head}{', '.join([values] * count)}{rest}", in_order


def _run_of(connection: Connection, record: ReplyRecord) -> int:
    known = and_(replies.c.request_id == record.request_id, replies.c.ts == record.ts)
    for attempt in record.attempts[:1]:
        shared = select(attempts.c.run).where(
            attempts.c.ts == attempt.ts,
            attempts.c.request_id == record.request_id,
            attempts.c.attempt == attempt.attempt,
        )
        known = or_(known, replies.c.run.in_(shared))
    found = connection.execute(select(replies.c.run).where(known).limit(1))
    run: int | None = found.scalar_one_or_none()
    if run is not None:
        return run
    new = insert(replies).values(_reply_row(record)).returning(replies.c.run)
    made: int = connection.execute(new).scalar_one()
    return made


def read_replies(
    connection: Connection, where: ColumnElement[bool], limit: int | None = None
) -> tuple[ReplyRecord, ...]:
    """The newest `limit` runs that satisfy `where` (a condition on `replies`), oldest first."""
    chosen = select(replies).where(where).order_by(replies.c.ts.desc(), replies.c.run.desc())
    found = connection.execute(chosen.limit(limit)).mappings().all()[::-1]
    attempts_of: dict[int, list[AttemptRecord]] = {row["run"]: [] for row in found}
    if attempts_of:
        rows = connection.execute(
            select(attempts)
            .where(attempts.c.run.in_(attempts_of))
            .order_by(attempts.c.run, attempts.c.attempt)
        )
        for row in rows.mappings():
            attempts_of[row["run"]].append(_attempt(row))
    return tuple(_reply(row, attempts_of[row["run"]]) for row in found)


def read_attempts(
    connection: Connection, where: ColumnElement[bool], limit: int, skip: int
) -> tuple[AttemptRecord, ...]:
    """Attempts that satisfy `where` (a condition on `attempts` and `replies`), newest first."""
    chosen = (
        select(attempts)
        .join_from(attempts, replies)
        .where(where)
        .order_by(attempts.c.ts.desc(), attempts.c.run.desc(), attempts.c.attempt.desc())
        .limit(limit)
        .offset(skip)
    )
    return tuple(_attempt(row) for row in connection.execute(chosen).mappings())


def _reply_row(record: ReplyRecord) -> dict[str, object]:
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


def _reply(row: RowMapping, attempts_of: Sequence[AttemptRecord]) -> ReplyRecord:
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
_ATTEMPT_COLUMNS = (*_PLAIN, *_CONVERTED)
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


def _attempt_row(record: AttemptRecord, run: int) -> tuple[object, ...]:
    """The values of `_ATTEMPT_COLUMNS`."""
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


def _attempt(row: RowMapping) -> AttemptRecord:
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
