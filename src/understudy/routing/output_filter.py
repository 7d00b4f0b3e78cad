"""Filters a model's raw text: separates reasoning, cuts leaked template tokens and loops.

For gateway clients only reasoning is separated: they write their own prompts and may want the
text that is cut for people. A text completion is only checked for loops.
"""

import re
import zlib
from collections.abc import Iterable
from functools import cached_property

from understudy.errors import BadReply, ErrorClass
from understudy.llm.messages import ReasoningDelta, TextDelta
from understudy.routing.error_page import PAGE_STARTS, ErrorPageCheck


class MarkerFinder:
    """A set of marker texts, each pattern compiled once, when it is needed; case is ignored."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = sorted(texts, key=len, reverse=True)
        self.starts = tuple(sorted({text[0] for text in self._texts}))
        """The characters that a marker begins with."""

    @cached_property
    def _any(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._texts)), re.IGNORECASE)

    @cached_property
    def _begun(self) -> re.Pattern[str]:
        beginnings = {text[:end] for text in self._texts for end in range(1, len(text))}
        longest_first = sorted(beginnings, key=len, reverse=True)
        return re.compile(f"(?:{'|'.join(map(re.escape, longest_first))})\\Z", re.IGNORECASE)

    def find(self, text: str) -> re.Match[str] | None:
        return self._any.search(text)

    def begun(self, text: str) -> int:
        """Return where an incomplete marker begins, which later pieces may complete; or the end."""
        found = self._begun.search(text)
        return len(text) if found is None else found.start()


_TAIL = 2000
_LONGEST_UNIT = 8
_REPEATS = 60
_RULER_REPEATS = 400
"""For units without a letter or digit: rulers, tables and drawings repeat on purpose."""
_DENSEST = 0.08
_REPLACEMENT_SHARE = 0.2
_SENTENCE_END = re.compile(r"([.!?…][\"”’»)*_]*(?=\s|$)|[。！？][”」』）]*|(?<=\S)(?=\n))")
_FIRST_CHECK = 40
_CHECK_EVERY = 64
_COMPRESS_EVERY = 500
"""A quarter of the text that is compressed."""


def loop_start(text: str) -> int | None:
    """Return where the loop begins that `text` ends in; `None` where it does not end in one."""
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


def whole_sentences(text: str) -> str:
    """The text up to its last end of a sentence; all of it where it has none."""
    ends = list(_SENTENCE_END.finditer(text))
    return text[: ends[-1].end(1)] if ends else text


def is_repetitive(text: str) -> bool:
    """Whether the end of a long text repeats itself."""
    if len(text) < _TAIL:
        return False
    tail = text[-_TAIL:].encode()
    # Small tables: to clear those of the usual size takes longer than to compress.
    small = zlib.compressobj(1, zlib.DEFLATED, wbits=13, memLevel=5)
    return len(small.compress(tail) + small.flush()) / len(tail) < _DENSEST


def is_undecodable(text: str) -> bool:
    return text.count("\ufffd") > len(text) * _REPLACEMENT_SHARE


class LoopDetector:
    """Checks a growing text from time to time for loops and undecodable characters."""

    __slots__ = ("_next_compression", "_tail")

    def __init__(self) -> None:
        self._tail = ""
        self._next_compression = _TAIL

    def check(self, added: str, length: int) -> int | None:
        """Return the index in the whole text at which a loop began, if one did.

        `added` is the text since the last check, `length` that of the whole text.
        """
        tail = self._tail = (self._tail + added)[-2 * _TAIL :]
        dropped = length - len(tail)
        if is_undecodable(tail):
            return dropped
        start = loop_start(tail)
        if start is None and length >= self._next_compression:
            self._next_compression = length + _COMPRESS_EVERY
            if is_repetitive(tail):
                start = len(tail) - _TAIL
        return None if start is None else dropped + start


_OPENING = (
    "<think>",
    "<thinking>",
    "<reasoning>",
    "[think]",  # Magistral
    "<|begin_of_thought|>",
    "<|channel>thought",  # Gemma 4
    "<|channel|>analysis<|message|>",  # gpt-oss
    "<|channel|>commentary<|message|>",
    "<|start|>assistant<|channel|>analysis<|message|>",
    "<|start|>assistant<|channel|>commentary<|message|>",
)
_CLOSING = (
    "</think>",
    "</thinking>",
    "</reasoning>",
    "[/think]",
    "<|end_of_thought|>",
    "<channel|>",
    "<|channel|>final<|message|>",
    "<|start|>assistant<|channel|>final<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
)
"""In lower case, as they are compared."""
_ALSO_MARKUP = "</reasoning>"
"""Without an opening tag it is text: people ask for XML."""
_STRIKE = "<s>"
_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<|end_of_turn_token|>",  # Cohere
    "<end_of_turn>",
    "<turn|>",
    "</s>",
    "<|end|>",
    "<|return|>",
    "<|user|>",  # GLM, as the three that follow
    "<|assistant|>",
    "<|system|>",
    "<|observation|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",  # DeepSeek, as the two that follow
    "<\uff5cuser\uff5c>",
    "<\uff5cassistant\uff5c>",
)
"""By which a chat template ends a turn: what follows was not meant for anyone."""
_LEAKS = (
    "<|im_start|>",
    "<|start_header_id|>",
    "[INST]",
    "[/INST]",
    "### Instruction",
)
_OTHER_SPEAKER = "\nUser:"
_AS_SENT = MarkerFinder(_OPENING + _CLOSING)
_FOR_CLIENTS = MarkerFinder(_OPENING + _CLOSING + _ENDS + PAGE_STARTS)
_FOR_PEOPLE = MarkerFinder((*_OPENING, *_CLOSING, *_ENDS, *_LEAKS, _OTHER_SPEAKER, *PAGE_STARTS))
_NONE = MarkerFinder(())
_ENDS_THOUGHT = MarkerFinder(_CLOSING)

_WORTH_KEEPING = 20

Clean = TextDelta | ReasoningDelta


class OutputFilter:
    """Filters the text of one attempt piece by piece. A piece that needs no change is returned as
    the very same event."""

    __slots__ = ("_assumed", "_held", "_last", "_length", "_loops", "_markers", "_next_check",
                 "_page", "_struck", "_thinking", "_thought", "_unchecked", "_visible", "cut",
                 "discard", "opened_by_template", "worthless")  # fmt: skip

    def __init__(
        self,
        for_people: bool,  # noqa: FBT001
        raw_completion: bool = False,  # noqa: FBT001, FBT002
        clean: bool = True,  # noqa: FBT001, FBT002
        in_thought: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """`clean`: end a client's reply at a leaked end of turn too. `in_thought`: the chat
        template opens a thought, so that only the closing tag comes."""
        for_clients = _FOR_CLIENTS if clean else _AS_SENT
        self._markers = _NONE if raw_completion else _FOR_PEOPLE if for_people else for_clients
        self._struck = False
        """Whether the text has an opening tag for which `</s>` is the closing one."""
        self._unchecked: list[str] = []
        """Visible text since the last check for loops."""
        self._length = 0
        """Of all visible text."""
        self._next_check = _FIRST_CHECK
        self._loops: LoopDetector | None = None
        self._held = ""
        self._page: ErrorPageCheck | None = None
        self._thinking = self._assumed = in_thought and not raw_completion
        self._thought = False
        self._visible = False
        self._last = "\n"
        self.cut = False
        """The reply ends here, and well; what follows is not wanted."""
        self.worthless: int | None = None
        """Where a loop begins, as an index into the whole text."""
        self.discard = False
        """All text before the latest piece was reasoning without an opening tag."""
        self.opened_by_template = False
        """A closing tag has come after text and no opening one."""

    @property
    def is_unclosed(self) -> bool:
        """Whether the thought that the template should have opened has no end yet."""
        return self._thinking and self._assumed

    def is_busy(self) -> bool:
        """Whether `rest` may return anything, or a thought has no end."""
        return bool(self._held) or self._page is not None or self._thinking

    def expect_text(self) -> None:
        """The server sends reasoning apart: the text is no thought."""
        if self.is_unclosed:
            self._thinking = self._assumed = False

    def accept(self, text: str) -> bool:
        """Take a text that needs no change; False, and nothing is taken, where `push` must."""
        if self._held or self._thinking or self._page is not None:
            return False
        for start in self._markers.starts:  # faster than a pattern, and than `any`
            if start in text:
                return False
        if not self._visible:
            if self._thought:
                return False
            self._visible = not text.isspace()
        self._last = text[-1:] or self._last
        self._unchecked.append(text)
        self._length += len(text)
        if self._length >= self._next_check:
            self._cut_loop()
        return True

    def push(self, event: TextDelta) -> tuple[TextDelta] | list[Clean]:
        """Raises `BadReply` when the text turns out to be no reply."""
        self.discard = False
        if self.accept(event.text):
            return (event,)
        text, self._held = self._held + event.text, ""
        clean = self._scan(text)
        if clean == [TextDelta(event.text)]:
            return (event,)
        return clean

    def rest(self) -> list[Clean]:
        """Return what was held as the beginning of a marker that never came."""
        self.discard = False
        held, self._held = self._held, ""
        clean: list[Clean] = []
        if self._page is not None:
            held = self._page.rest()
            self._page = None
        if not self.cut:
            self._emit(clean, held)
        return clean

    def refuse_loop(self, *, committed: bool) -> None:
        """Raise `garbage` for a loop, unless it began after text that is visible and good."""
        if self.worthless is not None and (self.worthless < _WORTH_KEEPING or not committed):
            raise BadReply(ErrorClass.GARBAGE)

    def _scan(self, text: str) -> list[Clean]:
        clean: list[Clean] = []
        while text and not self.cut:
            if self._page is not None:
                self._check_page(text, clean)
                break
            markers = self._markers_now()
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

    def _markers_now(self) -> MarkerFinder:
        if self._thinking:
            return _AS_SENT if self._assumed else _ENDS_THOUGHT
        return self._markers

    def _check_page(self, text: str, clean: list[Clean]) -> None:
        assert self._page is not None
        if passed := self._page.push(text):
            self._page = None
            self._emit(clean, passed)

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
        if known in _OPENING:
            self._begin_thought(marker, clean)
        elif self._is_markup(known):
            self._emit(clean, marker)
        elif known in _CLOSING:
            self._end_thought(clean)
        elif known in _ENDS:
            self.cut = True
        elif known in PAGE_STARTS and not self._visible:
            self._page = ErrorPageCheck()
            self._check_page(marker, clean)
        elif known in PAGE_STARTS:
            self._emit(clean, marker)
        elif not self._visible:
            raise BadReply(ErrorClass.GARBAGE)
        else:
            self.cut = True

    def _begin_thought(self, marker: str, clean: list[Clean]) -> None:
        if self._thinking:
            self._assumed = False
        elif not self._visible or self._last == "\n":
            self._thinking = self._thought = True
        else:
            self._emit(clean, marker)

    def _is_markup(self, marker: str) -> bool:
        if marker == _ALSO_MARKUP:
            return not (self._thinking or self._thought)
        return marker == "</s>" and self._struck

    def _end_thought(self, clean: list[Clean]) -> None:
        if not self._thinking and not self._thought:
            self.discard = self.opened_by_template = self._visible
            self._visible = False
            self._unchecked, self._length, self._next_check = [], 0, _FIRST_CHECK
            self._loops = None
            clean[:] = [ReasoningDelta(piece.text) for piece in clean]
        self.opened_by_template = self.opened_by_template or self._assumed
        self._thinking = self._assumed = False
        self._thought = True

    def _see(self, text: str) -> None:
        if not text:
            return
        self._visible = self._visible or not text.isspace()
        self._struck = self._struck or _STRIKE in text
        self._last = text[-1]
        self._unchecked.append(text)
        self._length += len(text)
        if self._length >= self._next_check:
            self._cut_loop()

    def _cut_loop(self) -> None:
        if self.worthless is not None:
            return
        if self._loops is None:
            self._loops = LoopDetector()
        self._next_check = self._length + _CHECK_EVERY
        added = "".join(self._unchecked)
        self._unchecked.clear()
        self.worthless = self._loops.check(added, self._length)
        self.cut = self.cut or self.worthless is not None
