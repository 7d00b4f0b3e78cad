"""`understudy gateway`: keys for programs that use the gateway."""

import json
from pathlib import Path

import typer

from understudy.cli.options import ConfigFile

app = typer.Typer(help="Serve other programs: keys for the gateway.", no_args_is_help=True)


@app.callback()
def gateway() -> None:
    """Serve other programs: keys for the gateway."""


@app.command()
def key(
    name: str = typer.Argument("mine", help="Its name in logs and limits."),
    config: ConfigFile = None,
) -> None:
    """Make a key, show it once, and print its entry for the configuration."""
    from understudy.gateway.auth import make_key

    where, above = _place(config)
    made = make_key()
    typer.echo(made.key)
    typer.echo(
        f"Give this key to the program; it is not shown again. {where}:\n\n{above}"
        f"    - name: {json.dumps(name)}\n      sha256: {made.sha256}",
        err=True,
    )


def _place(path: Path | None) -> tuple[str, str]:
    """Where the entry goes, in words, and the lines above it that are missing there."""
    from understudy.config.load import DEFAULT_FILE
    from understudy.config.yaml_document import Unreadable, read_document

    file = path or Path(DEFAULT_FILE)
    try:
        data = read_document(file.read_text("utf-8")).data
    except (OSError, UnicodeDecodeError, Unreadable):
        data = {}
    section = data.get("gateway") if isinstance(data, dict) else None
    if not isinstance(section, dict):
        return f"Add this to {file}", "gateway:\n  enabled: true\n  keys:\n"
    if not section.get("keys"):
        return f"Add this to the section `gateway` of {file}", "  keys:\n"
    return f"Add this to the list `gateway.keys` of {file}", ""
