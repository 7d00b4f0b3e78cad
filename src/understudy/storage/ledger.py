"""The usage ledger in the database: replies with their attempts, and aggregates."""

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Executable,
    RowMapping,
    Select,
    and_,
    case,
    delete,
    func,
    or_,
    select,
    true,
)

from understudy.routing.ledger import AttemptFilter, Grouping, Spent, UsagePoint, UsageRow
from understudy.routing.records import REPLY, AttemptRecord, Outcome, ReplyOutcome, ReplyRecord
from understudy.storage.database import Database
from understudy.storage.ledger_statements import insert_replies, read_attempts, read_replies
from understudy.storage.sql_functions import mean, utc_day, whole
from understudy.storage.tables import attempts, replies

_SHOWN = (ReplyOutcome.DELIVERED.value, ReplyOutcome.PARTIAL.value)

_a, _r = attempts.c, replies.c
_delivered = and_(_r.winner == _a.attempt, _r.outcome.in_(_SHOWN))
_tokens = func.coalesce(_a.input_tokens, 0) + func.coalesce(_a.output_tokens, 0)
_cost_unknown = and_(
    _a.cost_usd.is_(None),
    or_(_a.input_tokens.is_not(None), _a.maybe_billed, _a.outcome == Outcome.OK),
)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


_SUMS = {
    "replies": _count(_delivered),
    "attempts": func.count(),
    "failures": _count(_a.outcome == Outcome.ERROR),
    "input_tokens": func.sum(_a.input_tokens),
    "output_tokens": func.sum(_a.output_tokens),
    "reasoning_tokens": func.sum(_a.reasoning_tokens),
    "cache_read_tokens": func.sum(_a.cache_read_tokens),
    "estimated_tokens": func.sum(case((_a.usage_source == "estimated", _tokens), else_=0)),
    "cost_usd": func.sum(_a.cost_usd),
    "unknown_costs": _count(_cost_unknown),
    "first_output_ms": mean(_a.t_first_output_ms),
    "total_ms": mean(case((_a.outcome == Outcome.OK, _a.t_total_ms))),
}
"""By the field of UsageRow they fill."""

_KEYS: dict[Grouping, ColumnElement[str]] = {
    Grouping.PROVIDER: _a.provider,
    Grouping.MODEL: func.coalesce(_a.model_served, _a.model_requested),
    Grouping.USER: _r.user,
    Grouping.CHANNEL: _r.channel,
    Grouping.PURPOSE: _r.purpose,
    Grouping.DAY: utc_day(_a.ts),
}


_SEARCHED = (
    *(_a.provider, _a.label, _a.model_requested, _a.model_served, _a.error_class, _a.skip_reason),
    *(_a.request_id, _a.sink, _r.user, _r.channel),
)


class Ledger:
    """Implements both sides of `routing/ledger.py`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, ended: Sequence[ReplyRecord]) -> None:
        await self._database.write(lambda connection: insert_replies(connection, ended))

    async def prune(self, before: float) -> int:
        old = delete(replies).where(_r.ts < before)
        return await self._database.write(lambda connection: connection.execute(old).rowcount)

    async def usage(self, by: Grouping, since: float, until: float) -> tuple[UsageRow, ...]:
        key = _KEYS[by]
        rows = await self._rows(_summed(since, until).add_columns(key.label("key")).group_by("key"))
        order = _in_time if by is Grouping.DAY else _by_cost
        return tuple(sorted(map(_usage_row, rows), key=order))

    async def series(self, since: float, until: float, step_s: int) -> tuple[UsagePoint, ...]:
        span = whole(_a.ts / step_s)
        keys = (_a.provider.label("key"), span.label("span"))
        query = _summed(since, until).add_columns(*keys).group_by("span", _a.provider)
        rows = await self._rows(query.order_by("span", _a.provider))
        return tuple(UsagePoint(float(row["span"] * step_s), _usage_row(row)) for row in rows)

    async def spent(self, since: float) -> dict[str, Spent]:
        query = (
            select(
                _r.user,
                func.sum(_tokens).label("tokens"),
                func.sum(_a.cost_usd).label("usd"),
                _count(and_(_delivered, _r.purpose == REPLY)).label("replies"),
            )
            .join_from(replies, attempts)
            .where(_r.ts >= since)
            .group_by(_r.user)
        )
        return {
            row["user"]: Spent(row["replies"], row["tokens"], row["usd"] or 0.0)
            for row in await self._rows(query)
        }

    async def reply(self, reply_id: str) -> tuple[ReplyRecord, ...]:
        wanted = _r.request_id == reply_id
        return await self._database.read(lambda connection: read_replies(connection, wanted))

    async def attempts(
        self, wanted: AttemptFilter, limit: int, skip: int
    ) -> tuple[AttemptRecord, ...]:
        conditions = [_a.ts < wanted.until, *map(_has_word, wanted.words)]
        if wanted.outcome is not None:
            conditions.append(_a.outcome == wanted.outcome)
        return await self._database.read(
            lambda on: read_attempts(on, and_(*conditions), limit, skip)
        )

    async def recent(self, limit: int) -> tuple[ReplyRecord, ...]:
        newest = await self._database.read(lambda on: read_replies(on, true(), limit))
        return newest[::-1]

    async def _rows(self, query: Executable) -> Sequence[RowMapping]:
        return await self._database.read(lambda on: on.execute(query).mappings().all())


def _has_word(word: str) -> ColumnElement[bool]:
    return or_(*(column.icontains(word, autoescape=True) for column in _SEARCHED))


def _summed(since: float, until: float) -> Select[*tuple[object, ...]]:
    columns = [expression.label(field) for field, expression in _SUMS.items()]
    attempted = and_(_a.ts >= since, _a.ts < until, _a.outcome != Outcome.SKIPPED)
    return select(*columns).join_from(attempts, replies).where(attempted)


def _usage_row(row: RowMapping) -> UsageRow:
    return UsageRow(key=row["key"] or "", **{field: row[field] for field in _SUMS})


def _in_time(row: UsageRow) -> tuple[float, int, str]:
    return (0.0, 0, row.key)


def _by_cost(row: UsageRow) -> tuple[float, int, str]:
    return (-(row.cost_usd or 0.0), -((row.input_tokens or 0) + (row.output_tokens or 0)), row.key)
