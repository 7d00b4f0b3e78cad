"""`understudy config`: check, show and explain the configuration."""

import json
from pathlib import Path

import typer

from understudy.cli.options import ConfigFile, load

EXIT_CANNOT_ANSWER = 1

app = typer.Typer(no_args_is_help=True)


@app.callback()
def config() -> None:
    """Check, show and explain the configuration."""


@app.command()
def check(config: ConfigFile = None) -> None:
    """Check the configuration; list every mistake with its line.

    Exit code 1 where it is valid, but no server could ever answer.
    """
    from understudy.config.rules import has_enabled_server
    from understudy.conversation.personas.folder import load_library

    loaded = load(config)
    folder = loaded.path.parent if loaded.path is not None else Path()
    library = load_library(loaded.settings.persona, folder)
    typer.echo(f"{loaded.path} is valid." if loaded.path else "No config.yaml: defaults apply.")
    for warning in library.warnings:
        typer.echo(f"not used: {warning}", err=True)
    model = loaded.settings.model
    if not has_enabled_server(model.provider_order, model):
        raise typer.Exit(EXIT_CANNOT_ANSWER)


@app.command()
def show(config: ConfigFile = None) -> None:
    """Print every setting in force, secrets masked, and how long each server is waited for."""
    from understudy.config.masking import as_yaml, masked
    from understudy.routing.candidates import waiting_split

    settings = load(config).settings
    typer.echo(as_yaml(masked(settings)), nl=False)
    typer.echo("\n# Seconds that each candidate may stay silent before the next one is tried,")
    typer.echo("# if all earlier ones have used up their time:")
    for line in waiting_split(settings.model):
        typer.echo(f"#   {line}")


@app.command()
def schema() -> None:
    """Print the JSON schema, for editors."""
    from understudy.config.reference import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@app.command()
def example() -> None:
    """Print a configuration with every setting, its default and what it does."""
    from understudy.config.reference import example_text

    typer.echo(example_text(), nl=False)


@app.command()
def reference() -> None:
    """Print the documentation of every setting as Markdown."""
    from understudy.config.reference import reference_markdown

    typer.echo(reference_markdown(), nl=False)
