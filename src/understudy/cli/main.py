"""The command line: one file per command, imported only when that command is asked for."""

import io
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from understudy.errors import UnderstudyError

COMMANDS = (
    "demo",
    "setup",
    "run",
    "chat",
    "ask",
    "usage",
    "why",
    "login",
    "config",
    "paths",
    "service",
    "doctor",
    "support-bundle",
    "models",
    "gateway",
    "lore",
    "persona",
    "rehearse",
    "db",
)
"""Each has a module here, with a function of its name, or with `app` for commands below it."""

_PACKAGES = {"doctor": "doctor.command", "support-bundle": "support_bundle"}
"""Commands whose module has another name."""

EXIT_CONFIG = 2
EXIT_OFFLINE = 3


def build(words: list[str]) -> typer.Typer:
    """The command line for `words`: the one command they name, or all, for help and mistakes."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        callback=_understudy,
    )
    named = next((word for word in words if not word.startswith("-")), None)
    for name in (named,) if named in COMMANDS else COMMANDS:
        module = import_module(f"understudy.cli.{_PACKAGES.get(name, name)}")
        if isinstance(below := getattr(module, "app", None), typer.Typer):
            app.add_typer(below, name=name)
        else:
            function: Callable[..., None] = getattr(module, name.replace("-", "_"))
            app.command(name)(function)
    return app


def _understudy(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,  # noqa: FBT002
) -> None:
    """A chat bot for Discord and the web that never misses a line."""
    # `--version` alone is answered before this is imported; beside a command it changes nothing.


def run() -> None:
    """Run the command line; what is wrong becomes one sentence and an exit code."""
    _take_any_terminal()
    try:
        build(sys.argv[1:])()
    except UnderstudyError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_CONFIG)
    except KeyboardInterrupt:
        sys.exit(130)


def _take_any_terminal() -> None:
    """What a terminal cannot show becomes a mark; a stream that is closed is an empty one.

    Files and pipes are UTF-8 also where the code page of the system is another one.
    """
    # In this order, so that each takes its own number again.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - for as long as we run
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            if not stream.isatty() and "PYTHONIOENCODING" not in os.environ:
                stream.reconfigure(encoding="utf-8")
            if mode == "w":
                stream.reconfigure(errors="replace")
