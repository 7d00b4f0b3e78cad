"""`understudy demo`: see failover work without keys, models or network."""

import asyncio
import tempfile
import webbrowser
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.options import Verbose
from understudy.config.load import Config, parse_config
from understudy.config.masking import as_yaml
from understudy.model_files.catalogue import SMALLEST
from understudy.rehearsal.server import Cast, RehearsalServer


def demo(
    say: Annotated[
        str | None, typer.Option(help="Say this, print the reply and its route, and exit.")
    ] = None,
    port: Annotated[
        int, typer.Option(help="The page's port; 0 picks a free one.", min=0, max=65_535)
    ] = 8005,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,  # noqa: FBT002
    real: Annotated[  # noqa: FBT002
        bool, typer.Option("--real", help="Answer from a small real model, fetched once (93 MB).")
    ] = False,
    verbose: Verbose = False,  # noqa: FBT002
) -> None:
    """Start three stand-in model servers, the bot and its web page, and open it.

    One server answers 429, one breaks off in the middle of a reply, one works.
    """
    if real:
        _fetch_model()
    if say is not None:
        asyncio.run(_say(say, real=real, verbose=verbose))
    else:
        asyncio.run(_show(port, real=real, verbose=verbose, browser=browser))


def _fetch_model() -> None:
    from understudy.cli.models import fetch
    from understudy.llm.builtin.options import require_llama_cpp

    require_llama_cpp()
    fetch(SMALLEST)


async def _say(text: str, *, real: bool, verbose: bool) -> None:
    from understudy.app.one_shot import EXIT_OFFLINE, ask_once
    from understudy.cli.options import logs_for
    from understudy.routing.records import describe_route

    async with rehearsal_setup(port=0, real=real) as config:
        logs = logs_for(config, verbose=verbose, in_dialogue=True)
        answer = await ask_once(config, logs, text)
    typer.echo(answer.text)
    typer.echo(describe_route(answer.record.attempts))
    if answer.offline:
        raise typer.Exit(EXIT_OFFLINE)


async def _show(port: int, *, real: bool, verbose: bool, browser: bool) -> None:
    from understudy.app.run import running, wait_for_stop
    from understudy.cli.options import logs_for
    from understudy.http_server.server import check_port

    check_port("127.0.0.1", port, "--port")
    async with rehearsal_setup(port=port, real=real) as config:
        logs = logs_for(config, verbose=verbose, in_dialogue=True)
        async with running(config, logs) as everything:
            assert everything.web is not None
            typer.echo(
                "These model servers are asked in turn:\n"
                "  rehearsal-a  answers 429: come back later\n"
                "  rehearsal-b  breaks off in the middle of its reply\n"
                f"  {_REAL_LINE if real else 'rehearsal-c  works'}\n"
                f"\nTalk to the bot at    {everything.web.url}\n"
                f"Watch the servers at  {everything.web.login}  (this link works once)\n"
                "\nPress Ctrl-C to stop."
            )
            if browser:
                await asyncio.to_thread(webbrowser.open, everything.web.url)
            await wait_for_stop()


_REAL_LINE = f"{SMALLEST} is a small real model on this machine: it speaks well and invents facts"
SERVERS = (("rehearsal-a", "e429", 0.0), ("rehearsal-b", "cut", 0.15), ("rehearsal-c", "ok", 0.04))
"""Name, fault, and seconds per word: the broken-off reply is slow enough to be visible."""


@asynccontextmanager
async def rehearsal_setup(*, port: int, real: bool = False) -> AsyncGenerator[Config]:
    """Stand-in servers that run within this context, with a database that is deleted after it.

    With `real`, the last of them gives way to a built-in model.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-demo-")))
        servers: dict[str, object] = {}
        for name, fault, pause_s in SERVERS[:-1] if real else SERVERS:
            cast = Cast(word_pause_s=pause_s)
            server = await stack.enter_async_context(RehearsalServer(fault, cast=cast))
            servers[name] = {"engine": "openai", "base_url": server.base_url}
        if real:
            servers[SMALLEST] = {
                "engine": "builtin",
                "model": SMALLEST,
                "preload": True,
                "max_tokens": 220,
            }
        text = as_yaml(
            {
                "model": {"provider_order": list(servers), "servers": servers},
                "web": {"port": port},
                "storage": {"url": f"sqlite:///{folder}/understudy.db"},
                "persona": {"folder": str(folder / "personas")},
            }
        )
        yield parse_config(text, {})
