"""`understudy why`: the trace of a reply."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import ConfigFile, load
from understudy.control_characters import visible

if TYPE_CHECKING:
    from understudy.config.load import Config
    from understudy.routing.records import ReplyRecord


def why(
    reply_id: Annotated[
        str | None, typer.Argument(help="The reply's id; without one, the newest reply.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Show which server answered, what failed before it and why, its delay, and its cost."""
    from understudy.cli.ledger import EXIT_NOTHING
    from understudy.observability.reply_report import format_runs, unknown_reply

    runs = asyncio.run(_runs(load(config), reply_id))
    if runs:
        typer.echo(visible(format_runs(runs)))
        return
    typer.echo("There is no reply yet." if reply_id is None else unknown_reply(reply_id), err=True)
    raise typer.Exit(EXIT_NOTHING)


async def _runs(config: "Config", reply_id: str | None) -> "tuple[ReplyRecord, ...]":
    from understudy.cli.ledger import reading_ledger

    async with reading_ledger(config) as ledger:
        return await (ledger.recent(1) if reply_id is None else ledger.reply(reply_id))
