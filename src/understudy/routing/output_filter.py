"""Makes of a model's raw text what people may see: thoughts apart, leaks and loops cut off.

A client of the gateway gets what the model wrote, thoughts apart: whoever writes their own
prompts may well want the text that we would cut. What goes on from a bare prompt has no thoughts.
"""

import re
import zlib
from collections.abc import Callable, Iterable

from understudy.errors import BadReply, ErrorClass
from understudy.llm.messages import ReasoningDelta, TextDelta


class MarkerFinder:
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


class LoopDetector:
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


_OPENING = ("<think>", "<thinking>")
_CLOSING = ("</think>", "</thinking>")
_LEAKS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|endoftext|>",
    "[INST]",
    "[/INST]",
    "### Instruction",
)
_OTHER_SPEAKER = "\nUser:"
_PAGES = ("<!doctype html", "<html")
_CLIENTS = MarkerFinder(_OPENING + _CLOSING)
_PEOPLES = MarkerFinder((*_OPENING, *_CLOSING, *_LEAKS, _OTHER_SPEAKER, *_PAGES))
_NO_ONES = MarkerFinder(())
_ENDS_THOUGHT = MarkerFinder(_CLOSING)

_WORTH_KEEPING = 20

Clean = TextDelta | ReasoningDelta


class OutputFilter:
    """Takes the text of one attempt in pieces. Pieces that nothing is wrong with pass untouched,
    as the very same event."""

    def __init__(
        self, *, for_people: bool, is_bound: Callable[[], bool], raw_completion: bool = False
    ) -> None:
        self._markers = _NO_ONES if raw_completion else _PEOPLES if for_people else _CLIENTS
        self._is_bound = is_bound
        """Whether people or a client have seen text of this attempt."""
        self._loop = LoopDetector()
        self._held = ""
        self._thinking = False
        self._thought = False
        self._visible = False
        self._last = "\n"
        self.cut = False
        """The rest is not wanted: the reply ends here, and well."""
        self.keep: int | None = None
        """How many characters of the text are worth keeping, where not all are."""
        self.forget = False
        """All text before this piece was a thought whose beginning nobody marked."""

    def take(self, event: TextDelta) -> tuple[TextDelta] | list[Clean]:
        """Raises `BadReply` when the text turns out to be no reply."""
        self.forget = False
        plain = not (self._held or self._thinking or self._markers.may_concern(event.text))
        if plain and (self._visible or not self._thought):
            self._see(event.text)
            return (event,)
        text, self._held = self._held + event.text, ""
        clean = self._scan(text)
        if clean == [TextDelta(event.text)]:
            return (event,)
        return clean

    def rest(self) -> list[Clean]:
        """What was held as the beginning of a marker that never came."""
        self.forget = False
        held, self._held = self._held, ""
        clean: list[Clean] = []
        if not self.cut:
            self._emit(clean, held)
        return clean

    def _scan(self, text: str) -> list[Clean]:
        clean: list[Clean] = []
        while text and not self.cut:
            markers = _ENDS_THOUGHT if self._thinking else self._markers
            found = markers.find(text)
            if found is None:
                end = markers.begun(text)
                self._emit(clean, text[:end])
                self._held = text[end:]
                break
            self._emit(clean, text[: found.start()])
            self._meet(found.group(), clean)
            text = text[found.end() :]
        return clean

    def _emit(self, clean: list[Clean], text: str) -> None:
        if self._thinking:
            if text:
                clean.append(ReasoningDelta(text))
            return
        if self._thought and not self._visible:
            text = text.lstrip()
        if text:
            self._see(text)
            clean.append(TextDelta(text))

    def _meet(self, marker: str, clean: list[Clean]) -> None:
        known = marker.lower()
        if known in _OPENING and (not self._visible or self._last == "\n"):
            self._thinking = self._thought = True
        elif known in _CLOSING:
            self._end_thought(clean)
        elif known in _PAGES and not self._visible:
            raise BadReply(ErrorClass.BAD_BODY)
        elif known in _OPENING + _PAGES:
            self._emit(clean, marker)
        elif not self._visible:
            raise BadReply(ErrorClass.GARBAGE)
        else:
            self.cut = True

    def _end_thought(self, clean: list[Clean]) -> None:
        if not self._thinking and not self._thought:
            self.forget = self._visible
            self._visible = False
            self._loop = LoopDetector()
            clean.clear()
        self._thinking = False
        self._thought = True

    def _see(self, text: str) -> None:
        if not text:
            return
        self._visible = self._visible or not text.isspace()
        self._last = text[-1]
        worthless = self._loop.take(text)
        if worthless is None:
            return
        if worthless < _WORTH_KEEPING or not self._is_bound():
            raise BadReply(ErrorClass.GARBAGE)
        self.cut, self.keep = True, worthless
