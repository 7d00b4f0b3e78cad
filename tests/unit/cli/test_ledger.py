"""`usage` and `why` read what the bot has written."""

import asyncio
import csv
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sample_records import answered, failed, reply
from understudy.cli.main import build
from understudy.errors import ErrorClass
from understudy.routing.records import Origin, ReplyRecord
from understudy.storage.database import Database
from understudy.storage.ledger import Ledger

RUNNER = CliRunner()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(f"storage: {{url: 'sqlite:///{tmp_path / 'bot.db'}'}}")
    return file


def write(config: Path, replies: Sequence[ReplyRecord]) -> None:
    async def add() -> None:
        database = await Database.open(config.parent / "bot.db")
        await Ledger(database).add(replies)
        await database.aclose()

    asyncio.run(add())


def run(config: Path, *words: str) -> Result:
    line = [*words, "--config", str(config)]
    return RUNNER.invoke(build(line), line, catch_exceptions=False)


def today(**fields: object) -> ReplyRecord:
    now = time.time()
    limited = failed("openrouter", ErrorClass.RATE_LIMITED, ts=now)
    won = answered("local", ts=now, attempt=2)
    return reply(limited, won, ts=now, origin=Origin("web:c", "web:ann"), **fields)


def test_usage_shows_a_table_and_json_and_csv_of_the_same_rows(config: Path) -> None:
    write(config, [today()])

    table = run(config, "usage").stdout
    rows = json.loads(run(config, "usage", "--by", "user", "--json").stdout)
    lines = list(csv.DictReader(io.StringIO(run(config, "usage", "--csv").stdout)))

    assert "Usage by provider" in table
    assert "local" in table
    assert [(row["key"], row["input_tokens"], row["cost_usd"]) for row in rows] == [
        ("web:ann", 412, 0.25)
    ]
    assert [(line["key"], line["attempts"]) for line in lines] == [
        ("local", "1"),
        ("openrouter", "1"),
    ]


def test_usage_on_a_narrow_terminal_cuts_off_neither_names_nor_figures(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    write(config, [today()])

    lines = run(config, "usage").stdout

    assert "local: 1 replies, 412→57 tokens" in lines
    assert "openrouter: " in lines


def test_why_tells_a_reply_by_its_id_and_the_newest_without_one(config: Path) -> None:
    write(config, [today()])

    assert "openrouter (lab/model): rate-limited" in run(config, "why", "r1").stdout
    assert run(config, "why").stdout == run(config, "why", "r1").stdout


def test_why_of_an_unknown_id_is_a_sentence_and_exit_code_1(config: Path) -> None:
    write(config, [today()])

    result = run(config, "why", "nonsense")

    assert result.exit_code == 1
    assert "No reply 'nonsense' is in the ledger." in result.stderr


def test_without_a_database_nothing_is_made_and_it_is_said(config: Path) -> None:
    result = run(config, "usage")

    assert result.exit_code == 1
    assert "`understudy run` creates it" in result.stderr
    assert not (config.parent / "bot.db").exists()


def test_a_time_without_replies_is_said_in_words(config: Path) -> None:
    write(config, [])

    assert run(config, "usage", "--days", "3").stdout == "No usage in the last 3 days.\n"
