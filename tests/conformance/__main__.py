"""Prints the table and the single figures, measured: `make conformance`. Exit code 1 when a row
fails or a figure is not met."""

import asyncio
import logging
import sys

import structlog

from conformance.figures import figures
from conformance.gateway_subject import WAYS
from conformance.rows import ROWS
from conformance.table import FALLBACK, FULL, Measured, measure, warm_up
from conformance.understudy_subject import UnderstudyRouter

_HEAD = f"{'fault':<36} {'way':<12} {'calls':>6} {'visible':>9} {'total':>9}  {'text':<9} record"


def line(seen: Measured) -> str:
    outcome = seen.outcome
    visible = outcome.first_visible_s
    text = "fallback" if outcome.text == FALLBACK else "part" if outcome.failed else "primary"
    shown = "-" if visible is None else f"{visible * 1000:.0f} ms"
    figures = f"{shown:>9} {outcome.took_s * 1000:>6.0f} ms"
    calls = f"{seen.primary_calls}/{seen.fallback_calls}"
    story = " → ".join(outcome.record)
    verdict = "".join(f"  !! {complaint}" for complaint in seen.complaints)
    named = f"{seen.row.fault:<36} {seen.way.name:<12}"
    return f"{named} {calls:>6} {figures}  {text:<9} {story}{verdict}"


async def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for way in WAYS:
        await warm_up(way.make)
    failed = await table()
    async for figure in figures(UnderstudyRouter):
        failed += not figure.holds
        print(figure.line(), flush=True)  # noqa: T201
    return 1 if failed else 0


async def table() -> int:
    """Print each row for each way to a reply; return how many failed."""
    print(_HEAD)  # noqa: T201
    failed = 0
    for row in ROWS:
        for way in WAYS:
            seen = await measure(way, row, FULL)
            failed += bool(seen.complaints)
            print(line(seen), flush=True)  # noqa: T201
    rows = len(ROWS) * len(WAYS)
    print(f"{rows - failed} of {rows} rows pass\n")  # noqa: T201
    return failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
