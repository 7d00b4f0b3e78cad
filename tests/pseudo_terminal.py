"""A program in a pseudo-terminal, and a person who answers its questions."""

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path


def converse(
    words: Sequence[str],
    answers: Sequence[tuple[str, str]],
    *,
    folder: Path,
    env: Mapping[str, str],
    limit_s: float = 50,
    enter: str = "\n",
) -> tuple[str, int]:
    """Run `understudy` with `words`; returns all that the terminal showed, and the exit code.

    Each answer is a part of a question and what is typed after it, before the key `enter`. A
    program that still runs after the limit is killed.
    """
    terminal, inner = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, sys.executable, "-m", "understudy", *words],
        cwd=folder, env=dict(env), stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
    )  # fmt: skip
    os.close(inner)
    killer = threading.Timer(limit_s, child.kill)
    killer.start()
    try:
        shown = _talk(terminal, [(part, answer + enter) for part, answer in answers])
        code = child.wait()
    finally:
        killer.cancel()
        os.close(terminal)
    return shown, code


# Not `pty.fork`: a fork of a process with threads is an error from Python 3.12 on.
_TAKE_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _talk(terminal: int, answers: list[tuple[str, str]]) -> str:
    shown, seen = b"", 0
    while True:
        try:
            new = os.read(terminal, 4096)
        except OSError:
            # Linux reports the end of the program so.
            new = b""
        if not new:
            return shown.decode("utf-8", "replace").replace("\r\n", "\n")
        shown += new
        if answers and answers[0][0].encode() in shown[seen:]:
            seen = len(shown)
            os.write(terminal, answers.pop(0)[1].encode())
