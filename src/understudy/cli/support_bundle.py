"""`understudy support-bundle`: facts for a bug report in one file, without anything private."""

import asyncio
import json
import os
import platform
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import ConfigFile, load

if TYPE_CHECKING:
    from understudy.config.load import Config

LINES = 200
_DISTRIBUTION = "understudy-bot"
_PRIVATE_FIELDS = frozenset(
    ("channel", "message_id", "user", "error_text", "folder", "line", "pattern", "said")
)
_ID = re.compile(r"\d{15,20}")
"""Ids of Discord: people, channels, servers."""

LogFile = Annotated[
    Path | None,
    typer.Option("--log", help="A file with the bot's log as JSON lines; - is standard input."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The file to write.", show_default="a new one")
]


def support_bundle(config: ConfigFile = None, log: LogFile = None, output: Output = None) -> None:
    """Collect versions, settings and checks for a bug report: no keys, no texts, no ids."""
    loaded = load(config)
    now = datetime.now(UTC)
    path = output or Path(f"understudy-support-{now:%Y%m%d-%H%M%S}.json")
    bundle = asyncio.run(_bundle(loaded, _log_lines(log)))
    _write(path, json.dumps(bundle, indent=2, ensure_ascii=False) + "\n")
    typer.echo(f"Wrote {path}. Read it before you attach it to a report.")


async def _bundle(config: "Config", lines: Iterable[str]) -> dict[str, object]:
    from understudy.cli.doctor.report import as_row, diagnose
    from understudy.config.masking import MASK, masked, secrets_of

    secrets = sorted({s for s in secrets_of(config.settings) if len(s) > 3}, key=len)[::-1]
    home = str(Path.home())

    def scrub(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, MASK)
        return _ID.sub("<id>", text.replace(home, "~") if len(home) > 1 else text)

    diagnosis = await diagnose(config, ask=False)
    return {
        "versions": _versions(),
        "configuration": _scrubbed(masked(config.settings), scrub),
        "doctor": _scrubbed(as_row(diagnosis), scrub),
        "log": [_scrubbed(event, scrub) for event in _events(lines)],
    }


def _versions() -> dict[str, str]:
    names = [re.split(r"[^\w.-]", text)[0] for text in requires(_DISTRIBUTION) or ()]
    packages = {_DISTRIBUTION: version(_DISTRIBUTION)}
    for name in names:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:  # of an extra
            continue
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {"system": system, "python": python, "sqlite": sqlite3.sqlite_version, **packages}


def _log_lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    if str(path) == "-":
        return sys.stdin.read().splitlines()[-LINES:]
    return path.read_text("utf-8", "replace").splitlines()[-LINES:]


def _events(lines: Iterable[str]) -> list[dict[str, object]]:
    """JSON lines with an event, less private fields. Other lines may hold anything."""
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append({k: v for k, v in event.items() if k not in _PRIVATE_FIELDS})
    return events


def _scrubbed(value: object, scrub: Callable[[str], str]) -> object:
    if isinstance(value, dict):
        return {scrub(str(key)): _scrubbed(inner, scrub) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(inner, scrub) for inner in value]
    return scrub(value) if isinstance(value, str) else value


def _write(path: Path, text: str) -> None:
    """For its owner only; an existing file stays."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
