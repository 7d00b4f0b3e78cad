"""`understudy gateway`: keys for programs that use the gateway."""

import json

import typer

app = typer.Typer(help="Serve other programs: keys for the gateway.", no_args_is_help=True)


@app.callback()
def gateway() -> None:
    """Serve other programs: keys for the gateway."""


@app.command()
def key(name: str = typer.Argument("mine", help="Its name in logs and limits.")) -> None:
    """Make a key, show it once, and print its entry for the configuration."""
    from understudy.gateway.auth import make_key

    made = make_key()
    typer.echo(made.key)
    typer.echo(
        "Give this key to the program; it is not shown again. Put this into config.yaml:\n\n"
        "gateway:\n  keys:\n"
        f"    - name: {json.dumps(name)}\n      sha256: {made.sha256}",
        err=True,
    )
