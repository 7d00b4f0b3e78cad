"""The last lines of the program's log, kept in memory for the operator's page."""

import re
from collections import deque
from collections.abc import Iterable

from understudy.control_characters import visible

MAX_LINES = 500
_MAX_CHARS = 2000
_COLOURS = re.compile("\x1b\\[[0-9;]*m")


class LogTail:
    """Numbered lines, so that a reader can continue from the last one it received."""

    def __init__(self) -> None:
        self._lines: deque[str | bytes] = deque(maxlen=MAX_LINES)
        self.count = 0
        """The number of the newest line."""

    def add(self, lines: Iterable[str | bytes]) -> None:
        added = list(lines)
        self._lines.extend(added)
        self.count += len(added)

    def since(self, number: int) -> list[str]:
        """The lines after that number, oldest first, without colours."""
        fresh = min(max(0, self.count - number), len(self._lines))
        return [_text(line) for line in list(self._lines)[len(self._lines) - fresh :]]


def _text(line: str | bytes) -> str:
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    return visible(_COLOURS.sub("", text).rstrip("\n"))[:_MAX_CHARS]
