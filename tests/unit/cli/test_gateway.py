import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from understudy.cli.gateway import app
from understudy.config.load import parse_config


def made(file: Path, name: str) -> tuple[str, str]:
    """(key, what is said besides)"""
    result = CliRunner().invoke(app, ["key", name, "--config", str(file)])
    return result.stdout.strip(), result.stderr


def test_a_made_key_is_printed_once_with_the_entry_that_lets_it_in(tmp_path: Path) -> None:
    key, said = made(tmp_path / "none.yaml", "silly: tavern")

    assert key.startswith("sk-understudy-")
    assert f"sha256: {hashlib.sha256(key.encode()).hexdigest()}" in said
    assert 'name: "silly: tavern"' in said
    assert key not in said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web: {port: 1}\n",
        "gateway:\n  enabled: true\n",
        "web: {port: 1}\ngateway:\n  enabled: true\n  keys:\n    - name: old\n      key: old-key\n",
    ],
)
def test_the_printed_block_works_when_it_is_pasted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)

    key, said = made(file, "mine")
    gateway = parse_config(text + said.partition(":\n\n")[2], {}).settings.gateway

    assert gateway.enabled
    assert gateway.keys[-1].name == "mine"
    assert gateway.keys[-1].sha256 == hashlib.sha256(key.encode()).hexdigest()
