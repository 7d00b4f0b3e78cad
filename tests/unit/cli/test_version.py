import subprocess
import sys
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


def test_the_version_is_printed_without_importing_anything_heavy() -> None:
    printed = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "understudy", "--version"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert printed.stdout == f"understudy {version('understudy-bot')}\n"
    imported = {line.rpartition("|")[2].strip() for line in printed.stderr.splitlines()}
    assert imported.isdisjoint(HEAVY)
