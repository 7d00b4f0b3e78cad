import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from understudy.cli.main import build
from understudy.config.reference import example_text
from understudy.errors import ConfigError

RUNNER = CliRunner()


def said(*words: str) -> str:
    result = RUNNER.invoke(build(list(words)), list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_check_names_the_file_it_found_to_be_fine(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(example_text())

    assert said("config", "check", "--config", str(file)) == f"{file} is valid.\n"


def test_check_raises_what_the_command_line_turns_into_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("modle: {}")

    with pytest.raises(ConfigError, match="did you mean 'model'"):
        said("config", "check", "--config", str(file))


def test_check_exits_with_1_where_no_server_could_ever_answer(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model: {provider_order: [local]}")

    result = RUNNER.invoke(build(["config"]), ["config", "check", "--config", str(file)])

    assert result.exit_code == 1
    assert "each of its servers is disabled" in result.stderr


def test_check_refuses_a_persona_without_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("persona: {default: ghost}")

    with pytest.raises(ConfigError, match=r"ghost\.md"):
        said("config", "check", "--config", str(file))


def test_show_masks_keys(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("discord: {token: hush-hush}")

    shown = said("config", "show", "--config", str(file))

    assert "token: '********'" in shown
    assert "hush" not in shown


def test_example_schema_and_reference_are_printed_whole() -> None:
    assert said("config", "example") == example_text()
    assert json.loads(said("config", "schema"))["title"] == "Settings"
    assert "## model.openrouter" in said("config", "reference")


def test_help_lists_every_command_and_a_slip_is_refused() -> None:
    assert "Keys for programs" in said("--help") or "gateway" in said("--help")
    assert RUNNER.invoke(build(["confg"]), ["confg"]).exit_code == 2
