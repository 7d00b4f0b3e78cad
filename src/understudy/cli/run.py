"""`understudy run`: the bot."""

import asyncio
import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from understudy.cli.event_loop import run_with_fast_loop
from understudy.cli.options import ConfigFile, Verbose, load, logs_for
from understudy.files import PRIVATE

if TYPE_CHECKING:
    from understudy.app.run import Running
    from understudy.app.workers import Worker
    from understudy.config.load import Config
    from understudy.observability.logs import Logs


Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=64,
        help="Processes that share the ports of gateway and page.",
        show_default="run.workers",
    ),
]


LogFile = Annotated[
    Path | None,
    typer.Option("--log-file", help="Append the log to this private file, not to stderr."),
]


def run(
    config: ConfigFile = None,
    verbose: Verbose = False,  # noqa: FBT002
    workers: Workers = None,
    log_file: LogFile = None,
) -> None:
    """Run the bot: web page, gateway and Discord, as far as they are configured."""
    from understudy.app.workers import this_worker

    if log_file is not None:
        _log_to(log_file)
    if config is None:
        _write_first_files()
    loaded = load(config)
    logs = logs_for(loaded, verbose=verbose, in_dialogue=False)
    worker = this_worker()
    if not worker.shares_ports:
        loaded = _with_usable_server(loaded, config, logs)
    count = workers or loaded.settings.run.workers
    if count > 1 and not worker.shares_ports:
        code = asyncio.run(_supervise(loaded, count))
        raise typer.Exit(code)
    run_with_fast_loop(_run(loaded, logs, worker))


def _with_usable_server(config: "Config", path: Path | None, logs: "Logs") -> "Config":
    """`config`, or the one that a setup leads to where no model server is usable.

    At a terminal the setup is offered; without one the page serves it. Raises ConfigError with the
    next step where there is neither.
    """
    from understudy.app.run import NEXT_STEP
    from understudy.errors import ConfigError
    from understudy.routing.candidates import usable_providers

    if usable_providers(config.settings.model):
        return config
    if sys.stdin.isatty() and sys.stderr.isatty():
        from understudy.cli.setup import set_up

        typer.echo("No model server is usable yet.", err=True)
        if typer.confirm("Set one up now?", default=True, err=True):
            config = set_up(path)
    elif config.settings.web.enabled:
        config = _setup_on_page(config, logs)
    if not usable_providers(config.settings.model):
        raise ConfigError(NEXT_STEP)
    return config


def _setup_on_page(config: "Config", logs: "Logs") -> "Config":
    from understudy.app.setup.site import SetupSite, serve_setup

    def announce(site: SetupSite) -> None:
        _print("No model server is usable yet.")
        link = f"{site.url}/setup  (log in with the token)"
        _print(f"Set one up at:   {link if _is_file(sys.stderr) else site.login}")

    usable = asyncio.run(serve_setup(config, logs, announce))
    if usable is None:
        raise typer.Exit(0)
    return usable


def _log_to(path: Path) -> None:
    """Where a program has no console, as with `pythonw.exe`, errors would be lost."""
    from understudy.errors import ConfigError

    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}).") from None
    sys.stderr = os.fdopen(handle, "w", encoding="utf-8", errors="replace", buffering=1)


async def _supervise(config: "Config", count: int) -> int:
    from understudy.app.run import require_provider
    from understudy.app.systemd import service_notifications
    from understudy.app.workers import Supervisor, check_workers

    require_provider(config)
    check_workers(config.settings)
    supervisor = Supervisor([sys.executable, "-m", "understudy", *sys.argv[1:]], count)
    running = asyncio.create_task(supervisor.run())
    ready = asyncio.create_task(supervisor.all_ready.wait())
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        ready.cancel()
        return running.result()
    _print(f"{count} workers are running.")
    async with service_notifications():
        return await running


def _write_first_files() -> None:
    from understudy.config.load import DEFAULT_FILE
    from understudy.config.reference import write_first_files

    if not Path(DEFAULT_FILE).exists():
        written = [path.name for path in write_first_files(Path())]
        if written:
            names = " and ".join(written).replace("config.yaml", "config.yaml (a starter)")
            _print(f"Created {names}.")


async def _run(config: "Config", logs: "Logs", worker: "Worker") -> None:
    from understudy.app.file_limits import raise_open_file_limit
    from understudy.app.run import require_provider, running, wait_for_stop
    from understudy.app.systemd import service_notifications

    require_provider(config)
    raise_open_file_limit()
    async with running(config, logs, worker=worker) as everything:
        if worker.is_first:
            _print_addresses(everything)
        async with service_notifications():
            await wait_for_stop(everything.discord, worker)
        if worker.is_first:
            _print("Finishing running replies; press Ctrl-C again to stop at once.")


def _print(line: str) -> None:
    """To standard error, where it can be written: a full disk must not end the bot."""
    with contextlib.suppress(OSError):
        typer.echo(line, err=True)


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _print_addresses(running: "Running") -> None:
    if running.web is not None:
        _print(f"Chat page:       {running.web.url}")
        if _is_file(sys.stderr):
            # Anyone who can read the file could log in.
            _print(f"Operator's page: {running.web.url}/operator  (log in with the token)")
        else:
            _print(f"Operator's page: {running.web.login}  (this link works once)")
    if running.gateway is not None:
        _print(f"Gateway:         {running.gateway}")
    if running.discord is not None:
        _print("Discord:         connecting; the log has the invite link")
