"""Options that commands share; loading the configuration and setting up logs."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from understudy.config.load import Config
    from understudy.observability.logs import Logs

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="The configuration.", show_default="config.yaml"
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show all log lines.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load(path: Path | None) -> "Config":
    """The configuration of this command; raises ConfigError."""
    from understudy.config.load import load_config

    config = load_config(path, os.environ)
    for warning in config.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return config


def logs_for(config: "Config", *, verbose: bool, in_dialogue: bool) -> "Logs":
    """Set up logging. In a dialogue only warnings are shown between the replies, each as one plain
    line, unless `verbose`."""
    from understudy.observability.logs import Logs

    logging = config.settings.logging
    if verbose:
        logging = logging.model_copy(update={"level": "debug"})
    plain = in_dialogue and not verbose
    if plain and logging.level in ("debug", "info"):
        logging = logging.model_copy(update={"level": "warning"})
    return Logs(logging, sys.stderr, plain=plain)
