"""Usage reports for people and programs."""

import csv
import io
import json

from rich.console import Console

from understudy.observability.usage_report import (
    bar,
    usage_csv,
    usage_json,
    usage_table,
    usage_text,
)
from understudy.routing.ledger import Grouping, UsageRow

KNOWN = UsageRow("openrouter", 3, 5, 2, 4120, 570, 5, 100, 0, 1.25, 0, 180.4, 1300.0)
VAGUE = UsageRow("groq", 1, 1, 0, None, None, None, None, 0, None, 1, None, 900.0)
MIXED = UsageRow("chutes", 2, 2, 0, 900, 100, 0, 0, 300, 0.5, 1, None, None)


def shown(rows: tuple[UsageRow, ...]) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(usage_table(rows, Grouping.PROVIDER, 30))
    return captured.get()


def test_the_table_distinguishes_known_unknown_and_partly_known_costs() -> None:
    printed = shown((KNOWN, MIXED, VAGUE))

    assert "Usage by provider, last 30 days" in printed
    known, mixed, vague = (
        next(line for line in printed.splitlines() if name in line)
        for name in ("openrouter", "chutes", "groq")
    )
    assert "$1.25 " in known
    assert "████████" in known
    assert " 2/5 " in known
    assert "4,120" in known
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert "$0.50 +" in mixed
    assert vague.count("?") == 3
    assert "+ 2 attempts of unknown cost, which the sums leave out." in printed
    assert "300 tokens are estimated" in printed


def test_a_bar_is_proportional_and_never_invisible() -> None:
    assert bar(100, 100) == "█" * 8
    assert bar(50, 100) == "█" * 4
    assert bar(1, 100_000) == "▏"
    assert bar(0, 100) == bar(0, 0) == ""


def test_json_rows_carry_nulls_where_nothing_is_known() -> None:
    rows = json.loads(json.dumps(usage_json((KNOWN, VAGUE))))

    assert rows[0] == {
        "key": "openrouter",
        "replies": 3,
        "attempts": 5,
        "failures": 2,
        "input_tokens": 4120,
        "output_tokens": 570,
        "reasoning_tokens": 5,
        "cache_read_tokens": 100,
        "estimated_tokens": 0,
        "cost_usd": 1.25,
        "unknown_costs": 0,
        "first_output_ms": 180.4,
        "total_ms": 1300.0,
    }
    assert rows[1]["cost_usd"] is None
    assert rows[1]["input_tokens"] is None


def test_csv_leaves_unknown_values_empty_and_escapes_formulas() -> None:
    hostile = UsageRow('=HYPERLINK("x")', 1, 1, 0, 1, 1, 0, 0, 0, None, 1, None, None)

    rows = list(csv.DictReader(io.StringIO(usage_csv((KNOWN, hostile)))))

    assert rows[0]["cost_usd"] == "1.25"
    assert rows[1]["cost_usd"] == ""
    assert rows[1]["key"] == '\'=HYPERLINK("x")'


def test_in_a_chat_each_group_is_a_line() -> None:
    assert usage_text((KNOWN,)) == "openrouter: 3 replies, 4,120→570 tokens, $1.25"
    assert usage_text(()) == "Nothing was used in that time."
