"""`python -m attack [ROW ...]`: attacks the real program over loopback and prints what it took.

Each figure is shown with the one recorded before the defences were built (`before.json`, commit
df1641e) and with its limit. The exit code is 1 when a figure is over its limit.
`--record FILE` writes the figures down instead of comparing them.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from attack.row import COMMON, Figures, Row, Scene
from attack.rows import ROWS

_BEFORE = Path(__file__).with_name("before.json")


def attacked(row: Row) -> Figures:
    with ExitStack() as left_open, tempfile.TemporaryDirectory(prefix="attack-") as folder:
        scene = Scene(Path(folder), left_open)
        row.attack(scene)
        return {name: round(value, 3) for name, value in scene.figures.items()}


def show(row: Row, now: Figures, before: Figures) -> list[str]:
    """Prints the row; what is over its limit."""
    print(f"\n{row.number:>2}  {row.title}")
    over = []
    for name, limit in {**row.limits, **COMMON}.items():
        value = now.get(name, 0.0)
        bad = value > limit
        if name == "died" and not (value or before.get(name)):
            continue
        print(
            f"    {name:<28} before {_shown(before.get(name)):>9}   now {_shown(value):>9}"
            f"   limit {limit:>6g}{'   OVER' if bad else ''}"
        )
        if bad:
            over.append(f"row {row.number}: {name}")
    return over


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")


def machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="attack")
    parser.add_argument("rows", nargs="*", type=int)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    before = json.loads(_BEFORE.read_text())["rows"] if _BEFORE.exists() else {}
    over: list[str] = []
    figures: dict[str, Figures] = {}
    print(f"{machine()}")
    for row in ROWS:
        if options.rows and row.number not in options.rows:
            continue
        figures[str(row.number)] = now = attacked(row)
        over += show(row, now, before.get(str(row.number), {}))
        sys.stdout.flush()
    if options.record:
        record = {"machine": machine(), "rows": figures}
        options.record.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        return
    print("\nOver the limit: " + ", ".join(over) if over else "\nEvery figure is within its limit.")
    print(f"{len(figures)} rows, {len(over)} figures over their limits")
    sys.exit(bool(over))


if __name__ == "__main__":
    main()
