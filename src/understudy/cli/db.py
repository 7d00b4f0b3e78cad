"""`understudy db`: check and back up the database."""

from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.options import ConfigFile, load

app = typer.Typer(no_args_is_help=True)


@app.callback()
def db() -> None:
    """Check and back up the database."""


@app.command()
def check(config: ConfigFile = None) -> None:
    """Check the whole database. Exit code 1 when it is damaged."""
    from understudy.storage.maintenance import check as check_database

    path = _path(config)
    health = check_database(path)
    for name, count in health.rows.items():
        typer.echo(f"{name:<12} {count:>9,}")
    for problem in health.problems:
        typer.echo(f"problem: {problem}", err=True)
    if health.problems:
        raise typer.Exit(1)
    typer.echo(f"{path} is intact, {health.size / 1e6:.1f} MB.")


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    config: ConfigFile = None,
) -> None:
    """Copy the database to one file, also while the bot runs."""
    from understudy.storage.maintenance import back_up

    path = _path(config)
    back_up(path, to)
    typer.echo(
        f"Copied {path} to {to}. To restore it, stop the bot and copy it back over {path}, "
        f"with {path.name}-wal and {path.name}-shm removed."
    )


def _path(config: Path | None) -> Path:
    from understudy.storage.database import database_path

    return database_path(load(config).settings.storage.url)
