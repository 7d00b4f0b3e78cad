"""Which configuration the instances that use a database have; for `doctor`."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection, inspect, select

from understudy.errors import StorageError
from understudy.storage.database import NEEDS_PACKAGES, sqlite_path, storage_url
from understudy.storage.maintenance import opened_read_only
from understudy.storage.shared_tables import instances

_ALIVE_S = 30.0
"""An instance that was not seen for this long, compared with the newest one, has ended."""


async def running_revisions(url: str) -> Mapping[str, str]:
    """The configuration revisions by instance; empty without a database.

    Changes nothing. Raises StorageError where the server cannot be reached.
    """
    path = sqlite_path(url)
    if path is not None:
        return await asyncio.to_thread(_of_file, path) if path.is_file() else {}
    try:
        from understudy.storage.postgres_database import PostgresDatabase
    except ImportError:
        raise StorageError(NEEDS_PACKAGES) from None
    database = PostgresDatabase.connect(storage_url(url), retry_for_s=0.0)
    try:
        return await database.read(_of_server)
    finally:
        await database.aclose()


def _of_file(path: Path) -> Mapping[str, str]:
    with opened_read_only(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if instances.name not in tables:
            return {}
        rows = connection.execute("SELECT id, seen_at, config_rev FROM instances").fetchall()
    return _alive([(str(name), float(seen_at), str(rev)) for name, seen_at, rev in rows])


def _of_server(connection: Connection) -> Mapping[str, str]:
    if not inspect(connection).has_table(instances.name):
        return {}
    columns = instances.c.id, instances.c.seen_at, instances.c.config_rev
    return _alive([(row[0], row[1], row[2]) for row in connection.execute(select(*columns))])


def _alive(rows: list[tuple[str, float, str]]) -> Mapping[str, str]:
    newest = max((seen_at for _, seen_at, _ in rows), default=0.0)
    return {name: rev for name, seen_at, rev in rows if seen_at > newest - _ALIVE_S}
