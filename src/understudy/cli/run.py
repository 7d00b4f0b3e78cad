"""`understudy run`: the bot."""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from understudy.cli.options import ConfigFile, Verbose, load, logs_for

if TYPE_CHECKING:
    from understudy.app.run import Running
    from understudy.config.load import Config
    from understudy.observability.logs import Logs


def run(config: ConfigFile = None, verbose: Verbose = False) -> None:  # noqa: FBT002
    """Run the bot: web page, gateway and Discord, as far as they are configured."""
    if config is None:
        _write_first_files()
    loaded = load(config)
    logs = logs_for(loaded, verbose=verbose, in_dialogue=False)
    asyncio.run(_run(loaded, logs))


def _write_first_files() -> None:
    from understudy.config.load import DEFAULT_FILE
    from understudy.config.reference import write_first_files

    if not Path(DEFAULT_FILE).exists():
        written = [path.name for path in write_first_files(Path())]
        if written:
            names = " and ".join(written).replace("config.yaml", "config.yaml (a starter)")
            _print(f"Created {names}.")


async def _run(config: "Config", logs: "Logs") -> None:
    from understudy.app.file_limits import raise_open_file_limit
    from understudy.app.run import require_provider, running, wait_for_stop
    from understudy.app.systemd import service_notifications

    require_provider(config)
    raise_open_file_limit()
    async with running(config, logs) as everything:
        _print_addresses(everything)
        async with service_notifications():
            await wait_for_stop(everything.discord)
        _print("Finishing running replies; press Ctrl-C again to stop at once.")


def _print(line: str) -> None:
    """To standard error, where it can be written: a full disk must not end the bot."""
    with contextlib.suppress(OSError):
        typer.echo(line, err=True)


def _print_addresses(running: "Running") -> None:
    if running.web is not None:
        _print(f"Chat page:       {running.web.url}")
        _print(f"Operator's page: {running.web.login}  (this link works once)")
    if running.gateway is not None:
        _print(f"Gateway:         {running.gateway}")
    if running.discord is not None:
        _print("Discord:         connecting; the log has the invite link")
