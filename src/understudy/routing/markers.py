"""Finds markers in a text that comes in pieces, wherever the pieces break."""

import re
from collections.abc import Iterable


class Markers:
    """A set of marker texts, compiled once; case does not matter."""

    def __init__(self, texts: Iterable[str]) -> None:
        ordered = sorted(texts, key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE)
        beginnings = {text[:end] for text in ordered for end in range(1, len(text))}
        longest_first = sorted(beginnings, key=len, reverse=True)
        self._begun = re.compile(f"(?:{'|'.join(map(re.escape, longest_first))})\\Z", re.IGNORECASE)
        self._starts = frozenset(text[0] for text in ordered)

    def may_concern(self, text: str) -> bool:
        """A quick look: False when no marker can begin in `text`."""
        return any(start in text for start in self._starts)

    def find(self, text: str) -> re.Match[str] | None:
        return self._any.search(text)

    def begun(self, text: str) -> int:
        """Where a marker may have begun that later pieces complete; else the text's length."""
        found = self._begun.search(text)
        return len(text) if found is None else found.start()
