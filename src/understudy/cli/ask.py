"""`understudy ask`: one reply, for scripts."""

import asyncio
import json
import os
import stat
import sys
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.options import AsJson, ConfigFile, Verbose, load, logs_for


def ask(
    text: Annotated[
        str,
        typer.Argument(
            help="What to say; input from a pipe or file is added. - is the input alone."
        ),
    ],
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="Show it an image file.")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option("--file", "-f", help="Give it a text or PDF file.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: FBT002
    verbose: Verbose = False,  # noqa: FBT002
) -> None:
    """Ask for one reply and print it. Exit code 3 when no provider could answer."""
    from understudy.app.one_shot import EXIT_OFFLINE, as_row, ask_once, attached_file, image_file
    from understudy.control_characters import visible
    from understudy.routing.records import describe_route

    question = _question(text)
    if not question.strip() and not (image or file):
        raise typer.BadParameter(
            "is empty: give a text, or - to read it from standard input", param_hint="text"
        )
    loaded = load(config)
    logs = logs_for(loaded, verbose=verbose, in_dialogue=True)
    images = [image_file(path) for path in image or ()]
    files = [attached_file(path) for path in file or ()]
    answer = asyncio.run(ask_once(loaded, logs, question, images, files))
    typer.echo(json.dumps(as_row(answer), ensure_ascii=False) if as_json else visible(answer.text))
    if not (as_json or verbose) and len(answer.record.attempts) > 1:
        typer.echo(visible(describe_route(answer.record.attempts)), err=True)
    if answer.offline:
        raise typer.Exit(EXIT_OFFLINE)


def _question(text: str) -> str:
    """The text, followed by what is piped in, as in `cat log | understudy ask "summarise"`."""
    if text == "-":
        return _standard_input()
    piped = _standard_input().strip("\n") if _is_piped() else ""
    return f"{text}\n\n{piped}" if piped else text


def _standard_input() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _is_piped() -> bool:
    """Whether standard input is a pipe or a file: a terminal or a socket may never end."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)
