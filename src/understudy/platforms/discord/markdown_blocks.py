"""Where the blocks of a Markdown text are: fenced code, spoilers, and lines that begin a block.

Parsed by CommonMark's rules, with one of Discord's own: three backticks open and close a code block
wherever they are, also behind text, behind code or before text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

_MARKDOWN = MarkdownIt("commonmark").disable("inline")
_NEWLINE = re.compile(r"\r\n?|\n")
_TICKS = "```"
# A longer run or info string is more likely decoration than a code fence, and a fence that fills
# a message could not be opened again.
_MAX_MARKER = 16
_MAX_LANGUAGE = 40
_LONG_SPOILER = 1000
_SPOILER = re.compile(r"\|\|(?=\S).+?\|\|", re.DOTALL)
_LANGUAGE = re.compile(r"([\w+#.-]*)\n")
_QUOTE = re.compile(r"(?: {0,3}>[ \t]?)+")
_BLANK_LINES = re.compile(r"(?:[ \t]*\n)+")
_BLOCK_START = re.compile(
    r" {0,3}(?:[-+*][ \t\n]|[-+*]\Z|\d{1,9}[.)](?:\s|\Z)|#{1,6}(?:\s|\Z)|>|=+\s*$|-+\s*$"
    r"|[-*_](?:[ \t]*[-*_]){2,}|<[a-zA-Z/!?]|\[[^\]\n]+\]:|`{3,}|~{3,})| {4}|\t",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the text that must be closed before a cut in it, and opened again behind it."""

    body: int
    """Where its content begins."""
    close: int
    """Where its content ends."""
    end: int
    """Behind the marker that closes it."""
    opening: str
    closing: str
    is_code: bool
    is_closed: bool = True
    prefix: str = ""
    """The marks of a quotation in which it is, before each of its lines."""

    def opening_at(self, text: str, at: int) -> str:
        """What opens it again before `text[at:]`."""
        in_line = at > 0 and text[at - 1] != "\n"
        return f"{self.opening}{self.prefix}" if in_line else self.opening

    def contains(self, at: int) -> bool:
        return self.body <= at <= self.close and not (at == self.end and self.is_closed)

    def closing_after(self, text: str) -> str:
        """What closes it behind `text`."""
        return self.closing if not self.is_code or text.endswith("\n") else f"\n{self.closing}"


class Blocks:
    """The blocks of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts: set[int] = set()
        fences = list(self._fences())
        self.spans = sorted([*fences, *self._spoilers(fences)], key=lambda span: span.body)

    def open_at(self, at: int) -> Span | None:
        """The span that a cut at this place would break."""
        found = bisect_right(self.spans, at, key=lambda span: span.body) - 1
        return self.spans[found] if found >= 0 and self.spans[found].contains(at) else None

    def breaks_block(self, at: int) -> bool:
        """Whether text that is cut here would begin another kind of block."""
        begin = _BLANK_LINES.match(self._text, at)
        first = begin.end() if begin else at
        if first in self._starts or _BLOCK_START.match(self._text, first) is None:
            return False
        span = self.open_at(at)
        return span is None or not span.is_code

    def _fences(self) -> Iterator[Span]:
        base = 0
        while base < len(self._text):
            lines = [base, *(m.end() for m in _NEWLINE.finditer(self._text, base))]
            done, base = base, len(self._text)
            for token in _MARKDOWN.parse(self._text[done:]):
                self._record_starts(token, lines)
                if token.type != "fence" or token.map is None:
                    continue
                opened = self._opened_in_line(done, lines[token.map[0]])
                fence = opened or self._fence(token, lines)
                if fence is None:
                    continue
                yield fence
                done = fence.end
                if opened or fence.close not in (
                    *lines[-1:],
                    *lines[token.map[1] - 1 : token.map[1] + 1],
                ):
                    # Closed where CommonMark sees code: it reads the rest in another way.
                    base = done
                    break

    def _record_starts(self, token: Token, lines: list[int]) -> None:
        if token.map is None or token.level > 1:
            return
        first, after = token.map
        if token.type in ("code_block", "blockquote_open"):
            self._starts.update(lines[first:after])
        elif token.level == 0 or token.type == "list_item_open":
            self._starts.add(lines[first])

    def _opened_in_line(self, start: int, end: int) -> Span | None:
        """A code block that opens behind text: for CommonMark, its closing line opens one."""
        before = self._text[start:end]
        if before.count(_TICKS) % 2 == 0:
            return None
        opened = start + before.rfind(_TICKS)
        language = _LANGUAGE.match(self._text, opened + len(_TICKS))
        body = language.end() if language else opened + len(_TICKS)
        close = self._text.find(_TICKS, body)
        opening = f"{_TICKS}{language[1] if language else ''}\n"
        return Span(body, close, close + len(_TICKS), opening, _TICKS, is_code=True)

    def _fence(self, token: Token, lines: list[int]) -> Span | None:
        assert token.map is not None
        marker, language = token.markup, token.info.strip()
        if len(marker) > _MAX_MARKER or len(language) > _MAX_LANGUAGE:
            return None
        first, after = token.map
        body = lines[first + 1] if first + 1 < len(lines) else len(self._text)
        end = lines[after] if after < len(lines) else len(self._text)
        close, is_closed = end, after < len(lines)
        last = self._text[lines[after - 1] : end] if after - 1 > first else ""
        if _closes(last, marker):
            close, is_closed = lines[after - 1], True
            end = close + len(last.rstrip("\r\n"))
        elif marker[0] == "~":
            return None
        if marker == _TICKS and (early := self._text.find(_TICKS, body, close)) >= 0:
            close, end, is_closed = early, early + len(_TICKS), True
        quoted = _QUOTE.match(self._text, lines[first])
        prefix = quoted[0] if quoted else ""
        return Span(
            body,
            close,
            end,
            f"{prefix}{marker}{language}\n",
            f"{prefix}{marker}",
            is_code=True,
            is_closed=is_closed,
            prefix=prefix,
        )

    def _spoilers(self, fences: list[Span]) -> Iterator[Span]:
        """Only long ones: a shorter one fits into a message."""
        for found in _SPOILER.finditer(self._text):
            start, end = found.span()
            crosses = any(fence.body <= end and start <= fence.end for fence in fences)
            if end - start > _LONG_SPOILER and not crosses:
                yield Span(start + 2, end - 2, end, "||", "||", is_code=False)


def _closes(line: str, marker: str) -> bool:
    bare = line.strip().lstrip("> \t")
    return len(bare) >= len(marker) and set(bare) == {marker[0]}


def markers_between(spans: list[Span], start: int, end: int) -> int:
    """The room that the longest closing marker of the spans in a slice takes."""
    at = bisect_right(spans, start, key=lambda span: span.end)
    return max((len(s.closing) + 1 for s in spans[at:] if s.body <= end), default=0)
