"""Checks a database on a PostgreSQL server, and removes erased texts from its files."""

from psycopg import Connection as PsycopgConnection
from psycopg.errors import Diagnostic
from sqlalchemy import Connection, inspect, text

from understudy.storage.database import Database, schema_version
from understudy.storage.maintenance import Health, version_problem
from understudy.storage.schema import metadata

_SIZE = text("SELECT pg_database_size(current_database())")
_INVALID = text(
    "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " WHERE NOT i.indisvalid ORDER BY c.relname"
)

_WITH_TEXTS = ("messages", "search_words", "channels", "summaries", "notes", "proposals", "frames")
# Histograms and the most common values of columns are copies of texts.
_REWRITE = (f"VACUUM (FULL, ANALYZE) {', '.join(_WITH_TEXTS)}", "VACUUM (FULL) pg_statistic")


async def rewrite(database: Database) -> tuple[str, ...]:
    """Write the tables that hold texts to new files, without what was erased from them, and their
    statistics; returns warnings of the server. Other statements wait meanwhile.

    A plain VACUUM leaves erased bytes in the pages of tables, and words in the GIN index.
    """
    return await database.read(_rewrite)


def _rewrite(connection: Connection) -> tuple[str, ...]:
    warnings: list[str] = []

    def heard(notice: Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(notice.message_primary or "")

    driver = connection.connection.dbapi_connection
    assert isinstance(driver, PsycopgConnection)
    driver.add_notice_handler(heard)
    try:
        for statement in _REWRITE:
            connection.execute(text(statement))
    finally:
        driver.remove_notice_handler(heard)
    return tuple(warnings)


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
