"""`understudy demo`: see failover work without keys, models or network."""

import asyncio
import webbrowser
from typing import Annotated

import typer

from understudy.cli.options import Verbose


def demo(
    say: Annotated[
        str | None, typer.Option(help="Say this, print the reply and its route, and exit.")
    ] = None,
    port: Annotated[
        int, typer.Option(help="Where the page is; 0 takes a free port.", min=0, max=65_535)
    ] = 8005,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,  # noqa: FBT002
    verbose: Verbose = False,  # noqa: FBT002
) -> None:
    """Start three stand-in model servers, the bot and its web page, and open it.

    One server answers 429, one breaks off in the middle of a reply, one works.
    """
    if say is not None:
        asyncio.run(_say(say, verbose=verbose))
    else:
        asyncio.run(_show(port, verbose=verbose, browser=browser))


async def _say(text: str, *, verbose: bool) -> None:
    from understudy.cli.one_shot import EXIT_OFFLINE, ask_once
    from understudy.cli.options import logs_for
    from understudy.cli.staged import staged
    from understudy.routing.records import describe_route

    async with staged(port=0) as config:
        logs = logs_for(config, verbose=verbose, in_dialogue=True)
        answer = await ask_once(config, logs, text)
    typer.echo(answer.text)
    typer.echo(describe_route(answer.record.attempts))
    if answer.offline:
        raise typer.Exit(EXIT_OFFLINE)


async def _show(port: int, *, verbose: bool, browser: bool) -> None:
    from understudy.app.run import running, until_told_to_stop
    from understudy.cli.options import logs_for
    from understudy.cli.staged import staged

    async with staged(port=port) as config:
        logs = logs_for(config, verbose=verbose, in_dialogue=True)
        async with running(config, logs) as everything:
            assert everything.web is not None
            typer.echo(
                "Three stand-in model servers are running:\n"
                "  rehearsal-a  answers 429: come back later\n"
                "  rehearsal-b  breaks off in the middle of its reply\n"
                "  rehearsal-c  works\n"
                f"\nTalk to the bot at    {everything.web.url}\n"
                f"Watch the servers at  {everything.web.login}  (this link works once)\n"
                "\nCtrl-C ends it."
            )
            if browser:
                await asyncio.to_thread(webbrowser.open, everything.web.url)
            await until_told_to_stop()
