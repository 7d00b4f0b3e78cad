"""Checks a database on a PostgreSQL server."""

from sqlalchemy import Connection, inspect, text

from understudy.storage.database import Database, schema_version
from understudy.storage.maintenance import Health, version_problem
from understudy.storage.schema import metadata

_SIZE = text("SELECT pg_database_size(current_database())")
_INVALID = text(
    "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " WHERE NOT i.indisvalid ORDER BY c.relname"
)


async def check(database: Database) -> Health:
    """List problems of the schema, and count rows; changes nothing."""
    return await database.read(_check)


def _check(connection: Connection) -> Health:
    tables = set(inspect(connection).get_table_names())
    problems = [f"the table {name} is missing" for name in sorted(set(metadata.tables) - tables)]
    problems += [f"the index {name} is not valid" for name in connection.scalars(_INVALID)]
    problem = version_problem(schema_version(connection))
    if problem is not None:
        problems.append(problem)
    rows = {
        name: int(connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one())  # noqa: S608 - our own names
        for name in sorted(set(metadata.tables) & tables)
    }
    return Health(tuple(problems), rows, int(connection.execute(_SIZE).scalar_one()))
