"""Copies one database into another: from SQLite to PostgreSQL, or back."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Select, Table, func, select, tuple_
from sqlalchemy.dialects.postgresql import Insert, insert

from understudy.storage.database import Database
from understudy.storage.search_index import index_all
from understudy.storage.tables import COPIED

_ROWS = 1000
_SEQUENCES = {"messages": "seq", "replies": "run"}

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class TableCount:
    """Rows of one table after copying."""

    table: str
    source: int
    target: int

    @property
    def matches(self) -> bool:
        return self.source == self.target


async def copy_database(
    source: Database, target: Database, progress: Callable[[str, int], None]
) -> tuple[TableCount, ...]:
    """Copy every row with its ids; rows that the target has already are updated.

    Calls `progress` with a table and its rows so far. Raises StorageError; a second call then
    starts over and changes nothing that is equal. Rows that were deleted from the source since an
    earlier call stay in the target.
    """
    counts = []
    for table in COPIED:
        statement, done = _upsert(table), 0
        async for rows in _chunks(source, table):
            await _store(target, statement, rows)
            done += len(rows)
            progress(table.name, done)
        size = TableCount(table.name, await _count(source, table), await _count(target, table))
        counts.append(size)
    await target.write(_advance_sequences)
    await target.write(index_all)
    return tuple(counts)


async def _chunks(source: Database, table: Table) -> AsyncGenerator[list[Row]]:
    """The rows of a table in the order of its primary key."""
    key = tuple(table.primary_key.columns)
    query = select(table).order_by(*key).limit(_ROWS)
    rows = await _rows(source, query)
    while rows:
        yield rows
        after = tuple_(*key) > tuple(rows[-1][column.name] for column in key)
        rows = await _rows(source, query.where(after))


async def _rows(source: Database, query: Select[*tuple[object, ...]]) -> list[Row]:
    return await source.read(
        lambda connection: [dict(row) for row in connection.execute(query).mappings()]
    )


async def _store(target: Database, statement: Insert, rows: list[Row]) -> None:
    await target.write(lambda connection: connection.execute(statement, rows))


def _upsert(table: Table) -> Insert:
    statement = insert(table)
    others = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if not column.primary_key
    }
    if not others:
        return statement.on_conflict_do_nothing()
    key = [column.name for column in table.primary_key.columns]
    return statement.on_conflict_do_update(index_elements=key, set_=others)


async def _count(database: Database, table: Table) -> int:
    query = select(func.count()).select_from(table)
    return await database.read(lambda connection: connection.execute(query).scalar_one())


def _advance_sequences(connection: Connection) -> None:
    """Continue PostgreSQL's numbers after the copied ones; SQLite has no sequences."""
    if connection.dialect.name != "postgresql":
        return
    for table in COPIED:
        if table.name in _SEQUENCES:
            column = table.columns[_SEQUENCES[table.name]]
            highest = select(func.coalesce(func.max(column), 1)).scalar_subquery()
            sequence = f"{table.name}_{column.name}_seq"
            connection.execute(select(func.setval(sequence, highest)))
