"""`understudy usage`: what replies used and cost."""

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import AsJson, ConfigFile, load
from understudy.clock import DAY_S
from understudy.control_characters import visible
from understudy.routing.ledger import Grouping

if TYPE_CHECKING:
    from understudy.config.load import Config
    from understudy.routing.ledger import UsageRow


def usage(
    by: Annotated[Grouping, typer.Option(help="What to sum over.")] = Grouping.PROVIDER,
    days: Annotated[int, typer.Option(min=1, max=4000, help="How far to look back.")] = 30,
    as_json: AsJson = False,  # noqa: FBT002
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,  # noqa: FBT002
    config: ConfigFile = None,
) -> None:
    """Show tokens, cost and speed by provider, model, user, channel, purpose or day (UTC)."""
    from understudy.observability import usage_report

    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    rows = asyncio.run(_rows(load(config), by, days))
    if as_json:
        typer.echo(json.dumps(usage_report.usage_json(rows), ensure_ascii=False))
    elif as_csv:
        typer.echo(usage_report.usage_csv(rows), nl=False)
    elif not rows:
        typer.echo(f"No usage in the last {days} days.")
    else:
        from rich.console import Console

        rows = tuple(replace(row, key=visible(row.key)) for row in rows)
        console = Console()
        table = usage_report.usage_table(rows, by, days)
        needed = console.measure(table, options=console.options.update_width(1_000)).minimum
        if needed > console.width:
            # Too narrow for a table, which would truncate names and figures.
            typer.echo(usage_report.usage_text(rows))
        else:
            console.print(table)


async def _rows(config: "Config", by: Grouping, days: int) -> "tuple[UsageRow, ...]":
    from understudy.cli.ledger import reading_ledger

    now = time.time()
    async with reading_ledger(config) as ledger:
        # A reply is dated by its start, which differing clocks may put slightly after now.
        return await ledger.usage(by, now - days * DAY_S, now + DAY_S)
