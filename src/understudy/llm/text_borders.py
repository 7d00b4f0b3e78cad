"""What the frames of a reply have in common that differ in their text alone."""

import re

from understudy.llm.frames import text_borders

_MOST_LEARNED = 8
"""How often the constant part of text frames is determined: it may change in every frame."""
_TEXT_START = re.compile(rb'"(?:content|text)"\s*:\s*"')


class TextBorders:
    """What surrounds the text in the plain frames of one reply.

    It is determined once a second frame begins like the first one: many a reply has only one.
    """

    __slots__ = ("_left", "_sample", "_start", "head", "tail", "waiting")

    def __init__(self) -> None:
        self.head = self.tail = b""
        """What surrounds the text, its quotes excluded; empty: unknown."""
        self.waiting = False
        """Whether `compare` is to see the next frame."""
        self._left = _MOST_LEARNED
        self._sample: tuple[bytes, str] = (b"", "")
        """A frame of nothing but text, and its text."""
        self._start = b""
        """What is before the text of the sample."""

    def learn(self, payload: bytes, text: str) -> None:
        """Remember a frame of nothing but text."""
        start = _TEXT_START.search(payload) if self._left else None
        if start is not None:
            self._left -= 1
            self._sample, self._start = (payload, text), payload[: start.start()]
            self.waiting = True

    def compare(self, payload: bytes) -> None:
        """Determine the borders if this frame begins like the remembered one."""
        if payload.startswith(self._start):
            self.head, self.tail = text_borders(*self._sample) or (b"", b"")
            self.waiting = False
