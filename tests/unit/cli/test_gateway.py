import hashlib

from typer.testing import CliRunner

from understudy.cli.gateway import app


def test_a_made_key_is_printed_once_with_the_entry_that_lets_it_in() -> None:
    result = CliRunner().invoke(app, ["key", "silly: tavern"])

    key = result.stdout.strip()
    assert key.startswith("sk-understudy-")
    assert f"sha256: {hashlib.sha256(key.encode()).hexdigest()}" in result.stderr
    assert 'name: "silly: tavern"' in result.stderr
    assert key not in result.stderr
