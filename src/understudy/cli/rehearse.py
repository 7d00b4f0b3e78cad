"""`understudy rehearse`: stand-in model servers that fail on request, for fire drills."""

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated

import typer

Scripts = Annotated[
    list[str] | None,
    typer.Argument(help='One server each, for example "e429 x2, ok". Default: ok'),
]
FirstPort = Annotated[
    int, typer.Option("--port", help="The first server's port.", min=0, max=65_535)
]
PauseS = Annotated[float, typer.Option("--pause", help="Seconds between words.", min=0)]
ListNames = Annotated[bool, typer.Option("--list", help="List the faults.")]


def rehearse(
    scripts: Scripts = None,
    *,
    port: FirstPort = 9001,
    pause: PauseS = 0.03,
    list_names: ListNames = False,
) -> None:
    """Run stand-in model servers that fail as scripted, until Ctrl-C.

    Put the printed lines into your configuration and watch the failover.
    """
    from understudy.rehearsal.faults import NAMES

    if list_names:
        typer.echo("\n".join(NAMES))
        return
    asyncio.run(_serve(scripts or ["ok"], port, pause))


async def _serve(scripts: list[str], port: int, pause_s: float) -> None:
    from understudy.rehearsal.server import Cast, RehearsalServer

    cast = Cast(word_pause_s=pause_s)
    async with AsyncExitStack() as stack:
        rows = []
        for number, script in enumerate(scripts, 1):
            own_port = port + number - 1 if port else 0
            server = RehearsalServer(script, cast=cast, port=own_port)
            await stack.enter_async_context(server)
            rows.append((f"rehearsal-{number}", server.base_url, script))
        typer.echo(_entry(rows))
        typer.echo("Press Ctrl-C to stop.", err=True)
        await asyncio.Event().wait()


def _entry(rows: list[tuple[str, str, str]]) -> str:
    """The servers as lines of a configuration."""
    lines = [
        "model:",
        f"  provider_order: [{', '.join(name for name, _, _ in rows)}]",
        "  servers:",
    ]
    for name, base_url, script in rows:
        lines += [f"    {name}:  # {script}", "      engine: openai", f"      base_url: {base_url}"]
    return "\n".join(lines)
