"""Runs `understudy` as its users do: as a process, with only the environment it is given."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from waiting import LIMIT_S


def understudy(
    *words: str, folder: Path, env: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """The finished process; at most 150 s, so that only what hangs is ended."""
    return subprocess.run(
        [sys.executable, "-m", "understudy", *words],
        cwd=folder,
        env=plain_environment(env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def plain_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment without the keys and switches of the person who runs the tests."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "PYTHONPATH")
        if name in os.environ
    }
    return {**kept, "PYTHONUTF8": "1", **(env or {})}
