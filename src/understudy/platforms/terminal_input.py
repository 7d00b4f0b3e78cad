"""What a person types at a terminal: lines, pastes of several lines, Ctrl-J, Ctrl-C."""

import asyncio
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from understudy.platforms.terminal import TerminalChat
from understudy.signals import on_signals

_PASTE_BEGINS, _PASTE_ENDS = "\x1b[200~", "\x1b[201~"
_PASTE_MODE_ON, _PASTE_MODE_OFF = "\x1b[?2004h", "\x1b[?2004l"
_CTRL_J = b"\r"
"""As which `editing_mode` lets Ctrl-J arrive, for the Enter key sends what Ctrl-J else does."""


class LineAssembler:
    """Joins lines that belong together: a paste, and lines that are continued."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._pasting = False

    def add(self, line: str, *, continued: bool = False) -> str | None:
        """The complete message, or None while it goes on, as after a backslash."""
        if _PASTE_BEGINS in line:
            self._pasting = True
        if _PASTE_ENDS in line:
            self._pasting = False
        text = line.replace(_PASTE_BEGINS, "").replace(_PASTE_ENDS, "")
        if text.endswith("\\") and not (self._pasting or continued):
            text, continued = text[:-1], True
        self._lines.append(text)
        return None if continued or self._pasting else self.rest()

    def rest(self) -> str | None:
        """What was added and is not complete; None where there is nothing."""
        lines, self._lines = self._lines, []
        return "\n".join(lines) if lines else None


@contextmanager
def editing_mode(descriptor: int, out: TextIO) -> Iterator[bool]:
    """Let the terminal mark what is pasted, and tell Ctrl-J from Enter, while this is entered.

    Yields False where that is not possible.
    """
    if sys.platform == "win32" or not (os.isatty(descriptor) and out.isatty()):
        yield False
        return
    import termios

    before = termios.tcgetattr(descriptor)
    changed = termios.tcgetattr(descriptor)
    # Enter is CR and becomes NL, which ends the line; Ctrl-J is NL and becomes CR.
    changed[0] |= termios.ICRNL | termios.INLCR
    # Without it the marks are echoed as text, `^[[200~`, and Ctrl-J as `^M`.
    changed[3] &= ~termios.ECHOCTL
    # What stands before a Ctrl-J is handed over at once.
    changed[6][termios.VEOL] = _CTRL_J
    termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
    out.write(_PASTE_MODE_ON)
    out.flush()
    try:
        yield True
    finally:
        out.write(_PASTE_MODE_OFF)
        out.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _lines(descriptor: int, *, editing: bool) -> Iterator[tuple[str, bool]]:
    """Each line as it is read, and whether Ctrl-J ended it. Blocking.

    Not by sys.stdin: a thread that waits inside it would delay the end of the program.
    """
    ends = re.compile(rb"[\n\r]" if editing else rb"\n")
    buffer = b""
    while piece := os.read(descriptor, 65_536):
        buffer += piece
        while end := ends.search(buffer):
            line, buffer = buffer[: end.start()], buffer[end.end() :]
            yield line.decode("utf-8", "replace"), end[0] == _CTRL_J
    if buffer:
        yield buffer.decode("utf-8", "replace"), False


@contextmanager
def listening(chat: TerminalChat, descriptor: int = 0, *, editing: bool = False) -> Iterator[None]:
    """Pass on typed lines and Ctrl-C to `chat` while this is entered.

    `editing`: whether the terminal is in `editing_mode`.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        assembler = LineAssembler()
        for line, continued in _lines(descriptor, editing=editing):
            if continued:
                loop.call_soon_threadsafe(chat.continue_line)
            if (text := assembler.add(line, continued=continued)) is not None:
                loop.call_soon_threadsafe(chat.typed, text)
        for last in (assembler.rest(), None):
            loop.call_soon_threadsafe(chat.typed, last)

    def read_until_closed() -> None:
        # The loop may be closed before the input is.
        with suppress(RuntimeError, OSError):
            read()

    threading.Thread(target=read_until_closed, daemon=True, name="stdin").start()
    with on_signals((signal.SIGINT,), chat.interrupt):
        yield
