"""`understudy db`: check, migrate, back up, copy and vacuum the database."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import ConfigFile, load

if TYPE_CHECKING:
    from understudy.storage.copying import TableCount
    from understudy.storage.maintenance import Health

app = typer.Typer(no_args_is_help=True)


@app.callback()
def db() -> None:
    """Check, migrate, back up, copy and vacuum the database."""


@app.command()
def check(config: ConfigFile = None) -> None:
    """Check the whole database. Exit code 1 when it is damaged."""
    from understudy.storage.database import sqlite_path
    from understudy.storage.maintenance import check as check_file

    url = load(config).settings.storage.url
    path = sqlite_path(url)
    health = check_file(path) if path is not None else asyncio.run(_check_server(url))
    for name, count in health.rows.items():
        typer.echo(f"{name:<12} {count:>9,}")
    for problem in health.problems:
        typer.echo(f"problem: {problem}", err=True)
    if health.problems:
        raise typer.Exit(1)
    typer.echo(f"{path or 'The database'} is intact, {health.size / 1e6:.1f} MB.")


async def _check_server(url: str) -> "Health":
    from understudy.storage.database import storage_url
    from understudy.storage.postgres_database import PostgresDatabase
    from understudy.storage.postgres_maintenance import check as check_server

    database = PostgresDatabase.connect(storage_url(url))
    try:
        return await check_server(database)
    finally:
        await database.aclose()


@app.command()
def vacuum(config: ConfigFile = None) -> None:
    """Remove erased texts from the files of a PostgreSQL server; replies wait meanwhile.

    Exit code 1 when the role of storage.url is not allowed to do all of it.
    """
    from understudy.errors import StorageError
    from understudy.storage.database import sqlite_path

    url = load(config).settings.storage.url
    if sqlite_path(url) is not None:
        raise StorageError("a SQLite file has no erased texts: they are overwritten at once")
    warnings = asyncio.run(_rewrite(url))
    for warning in warnings:
        typer.echo(f"problem: {warning}", err=True)
    if warnings:
        raise typer.Exit(1)
    typer.echo("The tables were written to new files, without erased texts.")


async def _rewrite(url: str) -> tuple[str, ...]:
    from understudy.storage.database import storage_url
    from understudy.storage.postgres_database import PostgresDatabase
    from understudy.storage.postgres_maintenance import rewrite

    database = PostgresDatabase.connect(storage_url(url))
    try:
        return await rewrite(database)
    finally:
        await database.aclose()


@app.command()
def migrate(config: ConfigFile = None) -> None:
    """Bring the schema up to date, as every start of the bot does; creates a missing one."""
    from understudy.storage.schema import HEAD

    url = load(config).settings.storage.url
    typer.echo(f"{asyncio.run(_migrate(url))} has version {HEAD}.")


async def _migrate(url: str) -> str:
    from understudy.storage.database import Database

    database = await Database.open(url)
    await database.aclose()
    return database.name


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    config: ConfigFile = None,
) -> None:
    """Copy a SQLite database to one file, also while the bot runs."""
    from understudy.errors import StorageError
    from understudy.storage.database import sqlite_path
    from understudy.storage.maintenance import back_up

    path = sqlite_path(load(config).settings.storage.url)
    if path is None:
        raise StorageError("this database is on a PostgreSQL server: back it up with pg_dump")
    back_up(path, to)
    typer.echo(
        f"Copied {path} to {to}. To restore it, stop the bot and copy it back over {path}, "
        f"with {path.name}-wal and {path.name}-shm removed."
    )


@app.command()
def copy(
    source: Annotated[str, typer.Option("--from", help="The database to read, as a storage.url.")],
    target: Annotated[str, typer.Option("--to", help="The database to write, as a storage.url.")],
) -> None:
    """Copy a database to another one, ids included. Stop the bot before. It can be repeated.

    Exit code 1 when the numbers of rows differ at the end.
    """
    counts = asyncio.run(_copy(source, target))
    for count in counts:
        mark = "" if count.matches else "  differs"
        typer.echo(f"{count.table:<12} {count.source:>9,} {count.target:>9,}{mark}")
    if not all(count.matches for count in counts):
        raise typer.Exit(1)
    typer.echo("Copied. Set storage.url to the new database, then start the bot.")


async def _copy(source: str, target: str) -> "tuple[TableCount, ...]":
    from understudy.errors import StorageError
    from understudy.storage.copying import copy_database
    from understudy.storage.database import Database, sqlite_path, storage_url

    path = sqlite_path(source)
    if path is not None and not path.is_file():
        raise StorageError(f"--from: there is no database at {path}")
    if storage_url(source) == storage_url(target):
        raise StorageError("--to: name another database than --from")
    old = await Database.open(source)
    try:
        new = await Database.open(target)
        try:
            return await copy_database(old, new, _print_progress)
        finally:
            await new.aclose()
    finally:
        await old.aclose()


def _print_progress(table: str, rows: int) -> None:
    if rows % 10_000 == 0:
        typer.echo(f"{table}: {rows:,} rows", err=True)
