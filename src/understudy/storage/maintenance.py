"""Checks the database file, and copies it while the bot runs. Blocking."""

import sqlite3
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from understudy.errors import StorageError
from understudy.storage.schema import HEAD, metadata


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a check."""

    problems: tuple[str, ...]
    rows: dict[str, int]
    """By table, in the order of their names."""
    size: int
    """In bytes, with the write-ahead log."""


def check(path: Path) -> Health:
    """Read the whole file and list its problems; changes nothing.

    Raises StorageError where there is no database.
    """
    with opened_read_only(path) as connection:
        problems = [
            row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"
        ]
        orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        problems += [
            f"{table}: row {row} refers to a row that does not exist" for table, row, *_ in orphans
        ]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        missing = sorted(set(metadata.tables) - tables)
        problems += [f"the table {name} is missing" for name in missing]
        problem = version_problem(_version(connection, tables))
        problems += [] if problem is None else [problem]
        rows = {
            name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])  # noqa: S608 - our own names
            for name in sorted(set(metadata.tables) & tables)
        }
    size = sum(p.stat().st_size for p in path.parent.glob(f"{path.name}*") if _is_part(p, path))
    return Health(tuple(problems), rows, size)


def back_up(path: Path, target: Path) -> None:
    """Copy a consistent snapshot of the database, also while the bot writes to it.

    Raises StorageError. An existing `target` is not changed; an incomplete copy is deleted.
    """
    if target.exists():
        raise StorageError(f"{target} exists already; name another file")
    with opened_read_only(path) as source, ExitStack() as on_failure:
        try:
            target.touch(mode=0o600, exist_ok=False)
            on_failure.callback(target.unlink)
            with closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
                # A rollback journal makes the copy a single file.
                copy.execute("PRAGMA journal_mode = DELETE")
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{path} could not be copied to {target}: {error}") from None
        on_failure.pop_all()


@contextmanager
def opened_read_only(path: Path) -> Generator[sqlite3.Connection]:
    if not path.is_file():
        raise StorageError(f"there is no database at {path} yet: `understudy run` creates it")
    try:
        address = f"file:{quote(str(path))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"{path} cannot be read: {error}; "
            "restore a backup, or move it away to start with a new one"
        ) from None


def version_problem(version: str | None) -> str | None:
    """What is wrong with a schema version; None means that there is no schema."""
    if version is None:
        return "it has no schema version"
    if version == HEAD:
        return None
    if version > HEAD:
        return f"its version is {version}, this program's is {HEAD}: install a newer one"
    return (
        f"its version is {version or 'none'}, this program's is {HEAD}: run understudy db migrate"
    )


def _version(connection: sqlite3.Connection, tables: set[str]) -> str | None:
    if "alembic_version" not in tables:
        return None
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
    return str(version)


def _is_part(path: Path, database: Path) -> bool:
    return path.name in (database.name, f"{database.name}-wal", f"{database.name}-shm")
