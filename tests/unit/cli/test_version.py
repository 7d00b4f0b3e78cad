import subprocess
import sys
import time
from importlib.metadata import version

HEAVY = (
    "typer",
    "pydantic",
    "aiohttp",
    "structlog",
    "ruamel",
    "sqlalchemy",
    "starlette",
    "discord",
)


def _seconds(*words: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - started


def test_the_version_is_told_without_importing_anything_heavy() -> None:
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "understudy", "--version"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert told.stdout == f"understudy {version('understudy')}\n"
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert imported.isdisjoint(HEAVY)


def test_the_version_is_told_about_as_fast_as_python_starts() -> None:
    version_s = min(_seconds("-m", "understudy", "--version") for _ in range(3))
    python_s = min(_seconds("-c", "import asyncio") for _ in range(3))

    assert version_s <= 3 * python_s
