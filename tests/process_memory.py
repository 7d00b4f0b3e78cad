"""How much memory this process holds."""

from pathlib import Path


def resident_mb() -> float:
    """What the process holds in memory now, where the system tells it."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * 4096 / 1e6 if pages.exists() else float("nan")
