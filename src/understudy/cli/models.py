"""`understudy models`: the files of the built-in engine."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import AsJson
from understudy.model_files.catalogue import HUB_PREFIX, SMALLEST, catalogue
from understudy.model_files.folder import ModelFiles, ModelFolder, StoredFile, default_folder

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.table import Table

    from understudy.model_files.gguf import GgufFacts

app = typer.Typer(help="Model files of the built-in engine.", no_args_is_help=True)

LIMITS = (
    "Models of this size invent facts and lose the thread of long talks: good for small talk and "
    "as the last name in an order, not for knowledge."
)
_INFO_CONTEXT = 4096

Name = Annotated[
    str,
    typer.Argument(help=f"A name of the list, or {HUB_PREFIX}owner/repository/file.gguf."),
]
Given = Annotated[
    Path | None,
    typer.Option("--file", help="Take it from this file, fetched by hand, not from the network."),
]


@app.callback()
def models() -> None:
    """Model files of the built-in engine."""


@app.command("list")
def list_models(as_json: AsJson = False) -> None:  # noqa: FBT002
    """Show the models that are known by name, and those that are here."""
    folder = ModelFolder(default_folder())
    stored = tuple(folder.stored())
    if as_json:
        typer.echo(json.dumps(_rows(folder, stored), ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    console.print(_table(folder))
    for file in _others(stored):
        console.print(f"also here: {file.path} ({_size(file.size_bytes)})", markup=False)
    if partial := folder.partial_bytes():
        console.print(f"unfinished downloads: {_size(partial)} in {folder.partial}", markup=False)
    console.print(f"Folder: {folder.root}", markup=False)
    console.print(LIMITS, markup=False)


@app.command()
def get(name: Name = SMALLEST, file: Given = None) -> None:
    """Fetch a model, check it, and store it for every project of this user."""
    files = fetch(name, file)
    typer.echo(str(files.model))


@app.command()
def rm(name: Name) -> None:
    """Delete a model's files."""
    for path in ModelFolder(default_folder()).remove(name):
        typer.echo(f"deleted {path}")


@app.command()
def info(name: Name, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Show what a model file says of itself, and whether its memory is there."""
    from understudy.model_files.gguf import read_gguf

    files = ModelFolder(default_folder()).locate(name)
    row = _facts_row(files, read_gguf(files.model))
    if as_json:
        typer.echo(json.dumps(row, ensure_ascii=False))
        return
    for key, value in row.items():
        typer.echo(f"{key.replace('_', ' '):16} {'?' if value is None else value}")


def fetch(name: str, given: Path | None = None) -> ModelFiles:
    """Fetch a model with a progress bar on stderr. Raises ModelFileError."""
    from understudy.model_files.get import Fetcher

    with _bar() as bar:
        return Fetcher(ModelFolder(default_folder()), bar).get(name, given)


class _Bar:
    """One line of progress per step."""

    def __init__(self, rich: "RichProgress") -> None:
        self._rich = rich
        self._task: TaskID | None = None

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """See `Progress`."""
        self._task = self._rich.add_task(what, total=total, completed=done)

    def advance(self, count: int) -> None:
        """See `Progress`."""
        if self._task is not None:
            self._rich.advance(self._task, count)


@contextmanager
def _bar() -> Iterator[_Bar]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as rich:
        yield _Bar(rich)


def _table(folder: ModelFolder) -> "Table":
    from rich.table import Table

    table = Table("name", "size", "context", "sees", "licence", "here", "about")
    for name, entry in catalogue().items():
        table.add_row(
            name,
            _size(entry.size + entry.mmproj_size),
            str(entry.context),
            "yes" if entry.sees else "no",
            entry.licence,
            "yes" if folder.place(entry).is_file() else "",
            entry.about,
        )
    return table


def _rows(folder: ModelFolder, stored: tuple[StoredFile, ...]) -> dict[str, object]:
    """The documented shape of `models list --json`."""
    return {
        "folder": str(folder.root),
        "models": [
            {
                "name": name,
                "size_bytes": entry.size + entry.mmproj_size,
                "context_length": entry.context,
                "vision": entry.sees,
                "licence": entry.licence,
                "source": entry.source,
                "present": folder.place(entry).is_file(),
            }
            for name, entry in catalogue().items()
        ],
        "other_files": [
            {"path": str(file.path), "size_bytes": file.size_bytes} for file in _others(stored)
        ],
    }


def _others(stored: tuple[StoredFile, ...]) -> Iterator[StoredFile]:
    """Files that are no model of the catalogue."""
    for file in stored:
        if file.origin is None or file.origin.name not in catalogue():
            yield file


def _facts_row(files: ModelFiles, facts: "GgufFacts") -> dict[str, object]:
    """The documented shape of `models info --json`."""
    from understudy.model_files.memory import Plan, available_bytes

    context = min(facts.context_length or _INFO_CONTEXT, _INFO_CONTEXT)
    mmproj_bytes = files.mmproj.stat().st_size if files.mmproj else 0
    plan = Plan(facts, context, mmproj_bytes=mmproj_bytes)
    available = available_bytes()
    return {
        "file": str(files.model),
        "size_bytes": facts.size_bytes,
        "name": facts.name,
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "context_length": facts.context_length,
        "vision": files.mmproj is not None,
        "chat_template": facts.chat_template is not None,
        "memory_context": context,
        "memory_bytes": plan.needed_bytes,
        "free_memory_bytes": available,
        "fits": plan.needed_bytes <= available,
    }


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
