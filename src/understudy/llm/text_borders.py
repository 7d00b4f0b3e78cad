"""Reads the text of frames that differ from an earlier one of the reply in their text alone."""

import re

import msgspec

from understudy.errors import NOT_JSON
from understudy.llm.frames import text_borders

_MOST_LEARNED = 8
"""How often the constant part of text frames is determined: it may change in every frame."""
_TEXT_START = re.compile(rb'"(?:content|text)"\s*:\s*"')
_decode_text = msgspec.json.Decoder(str).decode


class TextBorders:
    """What surrounds the text in the plain frames of one reply.

    It is determined once a second frame begins like the first one: many a reply has only one.
    """

    __slots__ = ("_head", "_left", "_sample", "_start", "_tail", "may_know")

    def __init__(self) -> None:
        self.may_know = False
        """Whether `text_of` may return anything."""
        self._head = self._tail = b""
        """What surrounds the text, its quotes excluded; empty: unknown."""
        self._left = _MOST_LEARNED
        self._sample: tuple[bytes, str] | None = None
        """A frame of nothing but text, and its text."""
        self._start = b""
        """What is before the text of the sample."""

    def learn(self, payload: bytes, text: str) -> None:
        """Remember a frame of nothing but text."""
        start = _TEXT_START.search(payload) if self._left else None
        if start is not None:
            self._left -= 1
            self._sample, self._start = (payload, text), payload[: start.start()]
            self.may_know = True

    def text_of(self, payload: bytes) -> str:
        """Return the text of a frame with the known borders, which is not empty; else nothing."""
        if self._sample is not None and payload.startswith(self._start):
            self._head, self._tail = text_borders(*self._sample) or (b"", b"")
            self._sample = None
        head, tail = self._head, self._tail
        if not (
            head
            and payload.startswith(head)
            and payload.endswith(tail)
            and len(payload) > len(head) + len(tail)
        ):
            return ""
        try:
            return _decode_text(memoryview(payload)[len(head) - 1 : len(payload) - len(tail) + 1])
        except NOT_JSON:
            return ""
