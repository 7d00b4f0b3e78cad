"""`understudy ask`: one reply, for scripts."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.options import AsJson, ConfigFile, Verbose, load, logs_for


def ask(
    text: Annotated[str, typer.Argument(help="What to say; - reads it from standard input.")],
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="Show it an image file.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: FBT002
    verbose: Verbose = False,  # noqa: FBT002
) -> None:
    """Ask for one reply and print it. Exit code 3 when no provider could answer."""
    from understudy.cli.one_shot import EXIT_OFFLINE, as_row, ask_once, image_file
    from understudy.control_characters import visible

    question = sys.stdin.buffer.read().decode("utf-8", "replace") if text == "-" else text
    if not question.strip() and not image:
        raise typer.BadParameter(
            "is empty: give a text, or - to read it from standard input", param_hint="text"
        )
    loaded = load(config)
    logs = logs_for(loaded, verbose=verbose, in_dialogue=True)
    answer = asyncio.run(
        ask_once(loaded, logs, question, [image_file(path) for path in image or ()])
    )
    typer.echo(json.dumps(as_row(answer), ensure_ascii=False) if as_json else visible(answer.text))
    if answer.offline:
        raise typer.Exit(EXIT_OFFLINE)
