"""Usage for people and programs: a table with bars, lines of text, JSON and CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields

from rich import box
from rich.table import Table

from understudy.observability.reply_report import money
from understudy.routing.ledger import Grouping, UsageRow

_BAR_CELLS = 8
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_NAMELESS = "(none)"


def usage_json(rows: Sequence[UsageRow]) -> list[dict[str, object]]:
    """Documented in docs/observability.md."""
    return [asdict(row) for row in rows]


def usage_csv(rows: Sequence[UsageRow]) -> str:
    text = io.StringIO()
    names = [spec.name for spec in fields(UsageRow)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**asdict(row), "key": _no_formula(row.key)})
    return text.getvalue()


def usage_table(rows: Sequence[UsageRow], by: Grouping, days: int) -> Table:
    table = Table(
        title=f"Usage by {by}, last {days} days (UTC)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column(by.value.capitalize(), overflow="fold", min_width=14)
    for name in ("Replies", "Failed", "In", "Out", "Cost", "First", "Total"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Tokens", no_wrap=True, min_width=_BAR_CELLS)
    most = max((_all_tokens(row) for row in rows), default=0)
    for row in rows:
        table.add_row(*_cells(row), bar(_all_tokens(row), most))
    notes = _notes(rows)
    if notes:
        table.caption, table.caption_justify = "\n".join(notes), "left"
    return table


def usage_text(rows: Sequence[UsageRow]) -> str:
    """One line per group, for chat messages."""
    if not rows:
        return "Nothing was used in that time."
    lines = [
        f"{row.key or _NAMELESS}: {row.replies} replies, "
        f"{_number(row.input_tokens)}→{_number(row.output_tokens)} tokens, {_cost(row)}"
        for row in rows
    ]
    return "\n".join(lines + _notes(rows))


def bar(value: int, most: int) -> str:
    """At most eight cells wide; any value above zero is visible."""
    if not most or not value:
        return ""
    eighths = max(1, round(value / most * _BAR_CELLS * 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _cells(row: UsageRow) -> tuple[str, ...]:
    return (
        row.key or _NAMELESS,
        str(row.replies),
        f"{row.failures}/{row.attempts}",
        _short(row.input_tokens),
        _short(row.output_tokens),
        _cost(row),
        _seconds(row.first_output_ms),
        _seconds(row.total_ms),
    )


def _notes(rows: Sequence[UsageRow]) -> list[str]:
    unknown = sum(row.unknown_costs for row in rows)
    estimated = sum(row.estimated_tokens for row in rows)
    notes = []
    if unknown:
        notes.append(f"+ {unknown} attempts of unknown cost, which the sums leave out.")
    if estimated:
        notes.append(f"{estimated:,} tokens are estimated, because no server reported them.")
    return notes


def _all_tokens(row: UsageRow) -> int:
    return (row.input_tokens or 0) + (row.output_tokens or 0)


def _short(count: int | None) -> str:
    """Abbreviated for a column; JSON and CSV have the exact number."""
    if count is None or count < 10_000:
        return _number(count)
    return f"{count / 1e6:,.1f}M" if count >= 1_000_000 else f"{count / 1e3:.0f}k"


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _cost(row: UsageRow) -> str:
    if row.cost_usd is None:
        return "?" if row.unknown_costs else "-"
    return money(row.cost_usd) + (" +" if row.unknown_costs else "")


def _seconds(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds / 1000:.1f} s"


def _no_formula(text: str) -> str:
    """Escapes formulas: model names come from servers, and spreadsheets run formulas."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
