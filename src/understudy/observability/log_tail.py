"""The last lines of the program's log, kept in memory for the operator's page."""

import re
from collections import deque

from understudy.control_characters import visible

MAX_LINES = 500
_MAX_CHARS = 2000
_COLOURS = re.compile("\x1b\\[[0-9;]*m")


class LogTail:
    """Numbered lines, so that a reader can continue from the last one it received."""

    def __init__(self) -> None:
        self._batches: deque[tuple[str | bytes, int]] = deque()
        """What was written together, and how many lines it has; divided when it is read."""
        self._held = 0
        """The lines in `_batches`."""
        self.count = 0
        """The number of the newest line."""

    def add(self, text: str | bytes, lines: int = 1) -> None:
        """Add a line, or a batch of as many lines as it has line feeds."""
        self._batches.append((text, lines))
        self.count += lines
        self._held += lines
        while self._held - self._batches[0][1] >= MAX_LINES:
            self._held -= self._batches.popleft()[1]

    def since(self, number: int) -> list[str]:
        """The lines after that number, oldest first, without colours."""
        fresh = min(max(0, self.count - number), self._held, MAX_LINES)
        lines: list[str | bytes] = []
        for text, count in self._batches:
            lines += [text] if count == 1 else text.splitlines()
        return [_text(line) for line in lines[len(lines) - fresh :]]


def _text(line: str | bytes) -> str:
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    return visible(_COLOURS.sub("", text).rstrip("\n"))[:_MAX_CHARS]
