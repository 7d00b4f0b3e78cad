"""A program in a pseudo-terminal, and a person who answers its questions."""

import os
import pty
import signal
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
) -> tuple[str, int]:
    """Run `understudy` with `words`; returns all that the terminal showed, and the exit code.

    Each answer is a part of a question and what is typed after it. A program that still runs after
    the limit is killed.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-m", "understudy", *words], dict(env))
    killer = threading.Timer(limit_s, os.kill, (child, signal.SIGKILL))
    killer.start()
    try:
        shown = _talk(terminal, list(answers))
        _, status = os.waitpid(child, 0)
    finally:
        killer.cancel()
        os.close(terminal)
    return shown, os.waitstatus_to_exitcode(status)


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
            os.write(terminal, f"{answers.pop(0)[1]}\n".encode())
