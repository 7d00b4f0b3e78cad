"""Opens the usage ledger for commands, whether or not a bot is running."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from understudy.config.load import Config
    from understudy.storage.ledger import Ledger

EXIT_NOTHING = 1


@asynccontextmanager
async def reading_ledger(config: "Config") -> "AsyncGenerator[Ledger]":
    """The ledger of this configuration; exits with a message where there is none yet."""
    from understudy.storage.database import Database, sqlite_path
    from understudy.storage.ledger import Ledger

    url = config.settings.storage.url
    path = sqlite_path(url)
    if path is not None and not path.exists():
        typer.echo(f"There is no {path} yet: `understudy run` creates it.", err=True)
        raise typer.Exit(EXIT_NOTHING)
    database = await Database.open(url)
    try:
        yield Ledger(database)
    finally:
        await database.aclose()
