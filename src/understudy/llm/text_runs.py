"""Reads frames of one reply that differ from an earlier one in their text alone."""

import re
from itertools import takewhile

import msgspec

from understudy.errors import NOT_JSON
from understudy.llm.frames import EMPTY, delta_of, first_choice, read_frame
from understudy.llm.messages import TextDelta
from understudy.llm.plain_frames import is_plain

_MOST_LEARNED = 8
"""How often the constant part of text frames is determined: it may change in every frame."""
_WORTH_JOINING = 3
_BACKSLASH = ord("\\")
"""As a number: CPython 3.11 raises and drops an error where it looks for bytes within bytes."""

_TEXT_MEMBER = re.compile(rb'"(?:content|text)"\s*:\s*"((?:[^"\\]|\\.)*)"')

_decode_text = msgspec.json.Decoder(str).decode


class TextRuns:
    """What surrounds the text in the plain frames of one reply, and the texts between it.

    Nearly all frames of a reply are such frames. Those that one read brings are decoded together.
    """

    __slots__ = ("_head", "_least", "_left", "_tail")

    def __init__(self) -> None:
        self._head = self._tail = b""
        """What surrounds the text, its quotes excluded; empty: unknown."""
        self._least = 0
        """The length of both."""
        self._left = _MOST_LEARNED

    def learn(self, payload: bytes, text: str) -> None:
        """Note what surrounds the text of a frame that holds nothing else."""
        if self._left:
            self._left -= 1
            self._head, self._tail = _borders(payload, text) or (b"", b"")
            self._least = len(self._head) + len(self._tail)

    def read(self, payloads: list[bytes], start: int) -> TextDelta | None:
        """Return the text of the plain frames from `start` on, `None` where that frame is none."""
        if not self._head:
            return None
        payload, end = payloads[start], len(payloads)
        if end - start == 1:
            text = self._text_of(payload)
            return TextDelta(text, (payload,), plain=True) if text else None
        if not payload.startswith(self._head):
            return None
        while end > start and not payloads[end - 1].endswith(self._tail):
            end -= 1
        run = payloads[start:end]
        joined = self._joined(run) if len(run) >= _WORTH_JOINING else None
        if joined is None:
            texts = [*takewhile(bool, map(self._text_of, run))]
            run, joined = run[: len(texts)], "".join(texts)
        return TextDelta(joined, tuple(run), plain=True) if joined else None

    def _joined(self, run: list[bytes]) -> str | None:
        """Return the text of frames that are all plain, `None` where one may be otherwise.

        Half a character in one frame, or an escape that reaches over the end of one, would become
        valid only by joining them.
        """
        head, tail = self._head, self._tail
        begin, end = len(head), -len(tail)
        texts = [frame[begin:end] for frame in run]
        # Compared as a whole: to look at both ends of each frame takes longer than all the rest.
        if b"" in texts or head + (tail + head).join(texts) + tail != b"".join(run):
            return None
        joined = b"".join(texts)
        if _BACKSLASH in joined and (b"\\ud" in joined.lower() or any(map(_ends_escaped, texts))):
            return None
        if not joined.isascii() and any(map(_begins_within, texts)):
            return None
        try:
            return _decode_text(b'"%b"' % joined)
        except NOT_JSON:
            return None

    def _text_of(self, payload: bytes) -> str:
        """Return the text of a plain frame, which is not empty; else nothing."""
        head, tail = self._head, self._tail
        if len(payload) <= self._least or not (payload.startswith(head) and payload.endswith(tail)):
            return ""
        try:
            return _decode_text(payload[len(head) - 1 : 1 - len(tail)])
        except NOT_JSON:
            return ""


def _begins_within(text: bytes) -> bool:
    """Whether a text begins with another byte of a character than its first."""
    return text[0] & 0xC0 == 0x80


def _ends_escaped(text: bytes) -> bool:
    return text.endswith(b"\\")


def _borders(payload: bytes, text: str) -> tuple[bytes, bytes] | None:
    """Return what surrounds the text of a frame that holds `text` and nothing else.

    A later frame with the same borders differs in its text alone. `None` where another member of
    the delta or of the choice has a value, or where the text cannot be located for sure.
    """
    match = _TEXT_MEMBER.search(payload)
    if match is None or _TEXT_MEMBER.search(payload, match.end()) is not None:
        return None
    if not (is_plain(payload) or _has_only_text(payload)):
        return None
    if msgspec.json.decode(b'"%b"' % match.group(1)) != text:
        return None
    return payload[: match.start(1)], payload[match.end(1) :]


def _has_only_text(payload: bytes) -> bool:
    choice = first_choice(read_frame(payload))
    extra = [v for k, v in delta_of(choice).items() if k not in ("content", "role")]
    extra += [v for k, v in choice.items() if k not in ("index", "delta", "text")]
    return all(value in EMPTY for value in extra)
