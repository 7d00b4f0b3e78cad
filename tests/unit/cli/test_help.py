"""The help of every command, as a terminal of usual width shows it."""

from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from understudy.cli.main import build


def _paths(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from _paths(below, (*path, name))


@pytest.mark.parametrize("path", list(_paths(typer.main.get_command(build([])))))
def test_help_names_every_option_whole_in_80_columns(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(build([*path]), [*path, "--help"], env={"COLUMNS": "80"})

    assert result.exit_code == 0
    assert "…" not in result.output
