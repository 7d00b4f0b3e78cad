"""`understudy service`: start the bot at login, by the system's own service manager."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.errors import ConfigError

if TYPE_CHECKING:
    from understudy.cli.service_files import ServicePlan

app = typer.Typer(no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        help="Where config.yaml, .env and the database are.",
        show_default="this folder where it has a config.yaml, else the user's data folder",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


@app.callback()
def service() -> None:
    """Start the bot at login: systemd, launchd or Task Scheduler."""


@app.command()
def install(folder: Folder = None, yes: Yes = False, dry_run: DryRun = False) -> None:  # noqa: FBT002
    """Show the file and the commands, and then start the bot now and at every login."""
    from understudy.files import write_file

    plan = _plan(folder)
    typer.echo(f"This file will be written: {plan.file}\n\n{plan.shown}")
    if not _agreed(plan.install, yes=yes, dry_run=dry_run):
        return
    chosen = _folder(folder)
    try:
        chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
        plan.file.parent.mkdir(parents=True, exist_ok=True)
        write_file(plan.file, plan.content)
    except OSError as error:
        raise ConfigError(f"{error.filename or plan.file}: {error.strerror}") from None
    for command in plan.install:
        _run(command)
    if not (chosen / "config.yaml").exists():
        typer.echo(f"Set it up with: understudy setup --config {chosen / 'config.yaml'}")
    if plan.note:
        typer.echo(plan.note)


@app.command()
def remove(yes: Yes = False, dry_run: DryRun = False) -> None:  # noqa: FBT002
    """Stop the bot and start it no more at login. Its folder stays."""
    plan = _plan(None)
    typer.echo(f"This file will be deleted: {plan.file}\n")
    if not _agreed(plan.remove, yes=yes, dry_run=dry_run):
        return
    for command in plan.remove:
        _run(command, may_fail=True)
    plan.file.unlink(missing_ok=True)


@app.command()
def status() -> None:
    """Show whether the service is installed and runs."""
    plan = _plan(None)
    if not plan.file.exists():
        typer.echo(f"Not installed: there is no {plan.file}.")
        raise typer.Exit(1)
    typer.echo(f"Installed: {plan.file}")
    raise typer.Exit(_run(plan.status, may_fail=True))


def _plan(folder: Path | None) -> "ServicePlan":
    from understudy.cli.service_files import Service, plan_for

    return plan_for(Service(sys.executable, _folder(folder)))


def _folder(chosen: Path | None) -> Path:
    from understudy.cli.paths import service_folder

    return service_folder(chosen)


def _agreed(commands: tuple[tuple[str, ...], ...], *, yes: bool, dry_run: bool) -> bool:
    typer.echo("These commands will be run:\n")
    for command in commands:
        typer.echo(f"  {subprocess.list2cmdline(command)}")
    typer.echo()
    if dry_run:
        return False
    if yes or (sys.stdin.isatty() and typer.confirm("Do it?", default=True)):
        return True
    typer.echo("Nothing was done. Without a terminal, pass --yes.")
    raise typer.Exit(1)


def _run(command: tuple[str, ...], *, may_fail: bool = False) -> int:
    """The exit code. Raises ConfigError where the command fails and may not."""
    if shutil.which(command[0]) is None:
        raise ConfigError(f"There is no command {command[0]} here, so nothing was started.")
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - a fixed command, no shell
    if code and not may_fail:
        raise ConfigError(f"{subprocess.list2cmdline(command)} ended with code {code}.")
    return code
