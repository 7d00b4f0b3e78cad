"""The statements that store and read attempt and reply records."""

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
    ATTEMPT_COLUMNS,
    attempt_of,
    attempt_row,
    reply_of,
    reply_row,
)
from understudy.storage.statements import Statement, positional
from understudy.storage.tables import attempts, replies

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
_ADD_REPLIES = insert(replies)
_ADD_REPLIES_ONCE = (
    insert(replies)
    .on_conflict_do_nothing()
    .returning(replies.c.request_id, replies.c.ts, replies.c.run)
)
_LAST_RUN = Statement(select(func.max(replies.c.run)))
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
        stored |= _insert_fresh(connection, fresh)
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


def _insert_fresh(
    connection: Connection, fresh: Sequence[ReplyRecord]
) -> dict[tuple[str, float], int]:
    """Insert replies that `_runs` did not find; their runs, by the reply's id and time."""
    named = [reply_row(record) for record in fresh]
    rows = [tuple(row.values()) for row in named]
    columns = tuple(named[0])
    if connection.dialect.name == "postgresql":
        added = _insert_rows(connection, _ADD_REPLIES_ONCE, columns, rows)
        runs = {(row.request_id, row.ts): row.run for row in added}
        # Another process may have stored some of them meanwhile.
        return runs if len(added) == len(fresh) else _runs(connection, fresh) | runs
    # A write transaction excludes all others. SQLite's driver releases the interpreter lock for
    # each row that a statement returns, so the runs are numbered here.
    last: int = _LAST_RUN.run(connection, {}).scalars().one() or 0
    numbered = [(run, *row) for run, row in enumerate(rows, last + 1)]
    _insert_rows(connection, _ADD_REPLIES, ("run", *columns), numbered)
    return {_key(record): run for run, record in enumerate(fresh, last + 1)}


def _insert_attempts(connection: Connection, runs: Iterable[tuple[int, ReplyRecord]]) -> None:
    rows = [attempt_row(attempt, run) for run, record in runs for attempt in record.attempts]
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        named = [dict(zip(ATTEMPT_COLUMNS, row, strict=True)) for row in rows]
        _ADD_ATTEMPTS_AS_JSON.run(connection, {"rows": _json(named)})
    else:
        _insert_rows(connection, _ADD_ATTEMPTS, ATTEMPT_COLUMNS, rows)


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
    new = insert(replies).values(reply_row(record)).returning(replies.c.run)
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
