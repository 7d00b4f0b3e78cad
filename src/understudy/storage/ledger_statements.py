"""The statements that store and read attempt and reply records."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import TypeVar

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Row,
    Text,
    and_,
    bindparam,
    column,
    func,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSON, Insert, insert
from sqlalchemy.sql.dml import ReturningInsert

from understudy.routing.records import AttemptRecord, ReplyRecord
from understudy.storage.ledger_rows import (
    Columns,
    attempt_columns,
    attempt_of,
    reply_columns,
    reply_of,
)
from understudy.storage.statements import Statement, positional
from understudy.storage.tables import attempts, replies

T = TypeVar("T")

_RUNS = select(replies.c.request_id, replies.c.ts, replies.c.run)
_STEPS = (128, 32, 8, 2, 1)
"""Rows per statement. Few sizes, because each has a prepared statement of its own. SQLite accepts
at most 32,766 values in one statement."""
_FEW = 2
"""For so few rows, a statement has all columns: leaving some out costs more than it saves."""
_VALUES = re.compile(r"(?<=VALUES )(\([^()]*\))")
# With the usual resolution of conflicts, SQLite writes the pages that a statement of many rows
# changes to a file first. A conflict undoes the transaction in either case.
_ADD_REPLIES = insert(replies).prefix_with("OR ROLLBACK", dialect="sqlite")
_ADD_REPLIES_ONCE = (
    insert(replies)
    .on_conflict_do_nothing()
    .returning(replies.c.request_id, replies.c.ts, replies.c.run)
)
_LAST_RUN = Statement(select(func.max(replies.c.run)))
_ADD_ATTEMPTS = insert(attempts).on_conflict_do_nothing()
_NONE: frozenset[str] = frozenset()
_OFTEN_EMPTY = (
    ("key_ref",),
    ("t_connect_ms",),
    ("cost_usd",),
    ("reported_cost_usd",),
    (
        *("skip_reason", "error_class", "provider_code", "error_digest", "error_text"),
        *("retry_after_s", "held_until"),
        *("breaker_scope", "breaker_before", "breaker_after", "breaker_hold_s"),
    ),
    ("offline_reason", "retry_at"),
    ("order_name",),
)
"""Columns that are left out of a statement where all its rows are empty: the driver looks for an
adapter of each empty value. Those of a group are left out together, so that there are few
statements."""
_SELDOM_DIFFERENT = frozenset(
    (
        *("sink", "provider", "label", "engine", "endpoint_host", "key_ref", "model_requested"),
        *("model_served", "attempt", "of_max", "role", "outcome", "phase", "next", "http_status"),
        *("committed", "finish_reason", "budget_ms", "keepalives", "bad_frames", "usage_source"),
        *("cost_source", "maybe_billed", "images", "degraded", "config_rev"),
        *("winner", "channel", "purpose"),
    )
)
"""Columns that a statement for SQLite has once where they are the same in all its rows, as with one
candidate that answers everything: binding a value takes longer than storing it."""

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
        stored |= _insert_fresh(connection, fresh)
    known = [(stored[key], r) for r in (*fresh, *repeated) if (key := _key(r)) in stored]
    _insert_attempts(connection, known)
    for record in repeated:
        if _key(record) not in stored:
            _insert_attempts(connection, [(_run_of(connection, record), record)])


def _key(record: ReplyRecord) -> tuple[str, float]:
    return record.request_id, record.ts


def _runs(connection: Connection, records: Sequence[ReplyRecord]) -> dict[tuple[str, float], int]:
    """The stored runs of these replies, by the reply's id and time."""
    found: dict[tuple[str, float], int] = {}
    for some in _in_steps([record.request_id for record in records]):
        text = _compiled_look_up(connection.dialect, len(some))
        rows = connection.exec_driver_sql(text, tuple(some)).mappings()
        found |= {(row["request_id"], row["ts"]): row["run"] for row in rows}
    return found


def _insert_fresh(
    connection: Connection, fresh: Sequence[ReplyRecord]
) -> dict[tuple[str, float], int]:
    """Insert replies that `_runs` did not find; their runs, by the reply's id and time."""
    runs: dict[tuple[str, float], int] = {}
    if connection.dialect.name == "postgresql":
        for some in _in_steps(fresh):
            added = _insert(connection, _ADD_REPLIES_ONCE, reply_columns(some), len(some))
            runs |= {(row.request_id, row.ts): row.run for row in added}
        # Another process may have stored some of them meanwhile.
        return runs if len(runs) == len(fresh) else _runs(connection, fresh) | runs
    # A write transaction excludes all others. SQLite's driver releases the interpreter lock for
    # each row that a statement returns, so the runs are numbered here.
    next_run: int = (_LAST_RUN.run(connection, {}).scalars().one() or 0) + 1
    for some in _in_steps(fresh):
        numbers = range(next_run, next_run + len(some))
        _insert(connection, _ADD_REPLIES, {"run": numbers} | reply_columns(some), len(some))
        runs |= zip(map(_key, some), numbers, strict=True)
        next_run = numbers.stop
    return runs


def _insert_attempts(connection: Connection, runs: Iterable[tuple[int, ReplyRecord]]) -> None:
    rows = [(run, attempt) for run, record in runs for attempt in record.attempts]
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        columns = _attempt_columns(rows)
        named = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        _ADD_ATTEMPTS_AS_JSON.run(connection, {"rows": _json(named)})
        return
    for some in _in_steps(rows):
        _insert(connection, _ADD_ATTEMPTS, _attempt_columns(some), len(some))


def _attempt_columns(rows: Sequence[tuple[int, AttemptRecord]]) -> Columns:
    return {"run": [run for run, _ in rows]} | attempt_columns([attempt for _, attempt in rows])


def _in_steps(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Divide rows into parts of the sizes of `_STEPS`."""
    done = 0
    for size in _STEPS:
        while len(rows) - done >= size:
            yield rows[done : done + size]
            done += size


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


def _insert(
    connection: Connection,
    statement: Insert | ReturningInsert[*tuple[object, ...]],
    columns: Columns,
    count: int,
) -> Sequence[Row[*tuple[object, ...]]]:
    """Insert `count` rows of plain values; what the statement returns.

    SQLAlchemy processes each value of each row, which takes longer than SQLite takes to store it;
    so SQLAlchemy compiles the statement, and the values go to the driver directly. Each statement
    holds many rows: the driver releases the interpreter lock for each statement, and then has to
    wait for the event loop to reacquire it.
    """
    dialect = connection.dialect
    names, shared = _layout(columns, dialect) if count > _FEW else (tuple(columns), _NONE)
    text, once, each = _compiled(statement, dialect, names, shared, count)
    rows = zip(*[columns[name] for name in each], strict=True)
    values = (*[columns[name][0] for name in once], *chain.from_iterable(rows))
    result = connection.exec_driver_sql(text, values)
    return result.all() if result.returns_rows else ()


def _layout(columns: Columns, dialect: Dialect) -> tuple[tuple[str, ...], frozenset[str]]:
    """The columns that any row has, and those that a statement has once."""
    empty = {
        name
        for group in _OFTEN_EMPTY
        if all(_is_empty(columns.get(name, ())) for name in group)
        for name in group
    }
    names = tuple(name for name in columns if name not in empty)
    shared = _SELDOM_DIFFERENT.intersection(names) if dialect.name == "sqlite" else _NONE
    return names, shared if all(_is_same(columns[name]) for name in shared) else _NONE


def _is_empty(column: Sequence[object]) -> bool:
    return not column or (column[0] is None and column.count(None) == len(column))


def _is_same(column: Sequence[object]) -> bool:
    return column.count(column[0]) == len(column)


@cache
def _compiled(
    statement: Insert | ReturningInsert[*tuple[object, ...]],
    dialect: Dialect,
    columns: tuple[str, ...],
    shared: frozenset[str],
    count: int,
) -> tuple[str, Sequence[str], Sequence[str]]:
    """The SQL for `count` rows, and the columns whose values it takes once, then for each row."""
    text, order = positional(statement.compile(dialect=dialect, column_keys=columns))
    head, values, rest = _VALUES.split(text, maxsplit=1)
    if not shared:
        return f"{head}{', '.join([values] * count)}{rest}", (), order
    once = [name for name in order if name in shared]
    each = [name for name in order if name not in shared]
    numbers = {name: number for number, name in enumerate(once, 1)}
    rows = []
    for row in range(count):
        first = len(once) + row * len(each) + 1
        numbers |= {name: number for number, name in enumerate(each, first)}
        rows.append("(" + ", ".join([f"?{numbers[name]}" for name in order]) + ")")
    return f"{head}{', '.join(rows)}{rest}", once, each


@cache
def _compiled_look_up(dialect: Dialect, count: int) -> str:
    """The SQL that finds the runs of `count` replies."""
    ids = [bindparam(f"id_{number}", type_=Text) for number in range(count)]
    text, _ = positional(_RUNS.where(replies.c.request_id.in_(ids)).compile(dialect=dialect))
    return text


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
    row = {name: value for name, (value,) in reply_columns((record,)).items()}
    new = insert(replies).values(row).returning(replies.c.run)
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
            attempts_of[row["run"]].append(attempt_of(row))
    return tuple(reply_of(row, attempts_of[row["run"]]) for row in found)


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
    return tuple(attempt_of(row) for row in connection.execute(chosen).mappings())
