"""Tells a model that has lost its way from one that writes oddly. Pure, cheap and slow to judge."""

import zlib

_TAIL = 2000
_LONGEST_UNIT = 8
_REPEATS = 60
_RULER_REPEATS = 400
"""For units without a letter or digit: rulers, tables and drawings repeat honestly."""
_DENSEST = 0.08
_REPLACEMENT_SHARE = 0.2
_FIRST_LOOK = 40
_LOOK_EVERY = 64


def loop_start(text: str) -> int | None:
    """Where the loop begins in which `text` ends; `None` while it does not end in one."""
    for size in range(1, _LONGEST_UNIT + 1):
        unit = text[-size:]
        if not text.endswith(unit * _REPEATS):
            continue
        repeats = _REPEATS if any(map(str.isalnum, unit)) else _RULER_REPEATS
        if len(unit) == size and text.endswith(unit * repeats):
            start = len(text)
            while start >= size and text[start - size : start] == unit:
                start -= size
            return start
    return None


def says_nothing_new(text: str) -> bool:
    """Whether the last stretch of a long text is the same over and over."""
    if len(text) < _TAIL:
        return False
    tail = text[-_TAIL:].encode()
    return len(zlib.compress(tail, 1)) / len(tail) < _DENSEST


def is_undecodable(text: str) -> bool:
    return text.count("\ufffd") > len(text) * _REPLACEMENT_SHARE


class LoopWatch:
    """Looks at a growing text now and then; says from where on it is worth nothing."""

    def __init__(self) -> None:
        self._text = ""
        self._next_look = _FIRST_LOOK
        self._parts: list[str] = []
        self._length = 0

    def take(self, text: str) -> int | None:
        """Index of the first worthless character of the whole text so far, if it has come to
        that."""
        self._parts.append(text)
        self._length += len(text)
        if self._length < self._next_look:
            return None
        return self._look()

    def _look(self) -> int | None:
        self._next_look = self._length + _LOOK_EVERY
        self._text = (self._text + "".join(self._parts))[-2 * _TAIL :]
        self._parts.clear()
        dropped = self._length - len(self._text)
        if is_undecodable(self._text):
            return dropped
        start = loop_start(self._text)
        if start is None and says_nothing_new(self._text):
            start = len(self._text) - _TAIL
        return None if start is None else dropped + start
