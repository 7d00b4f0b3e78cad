"""Splits a reply into Discord messages without breaking its Markdown.

Lengths are UTF-16 units: Discord's documents do not say what its limit counts, and these are the
larger number.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import regex

from understudy.platforms.discord.markdown_blocks import Blocks, Span, markers_between

LIMIT = 2000

_WHOLE = re.compile(
    r"<(?:@[!&]?\d+|#\d+|a?:\w+:\d+|t:-?\d+(?::\w)?|/[^\n:>]+:\d+|id:\w+)>"  # mentions and emoji
    r"|\[[^\]\n]*\]\([^)\s]*\)"  # masked links
    r"|https?://[^\s<>]+"
    r"|[^\n`~]?(?:`{3,}|~{3,})"  # a cut in front of it would make it open a fence
    r"|<[@#:at/i][^\s>]*\Z|\[[^\]\n]*(?:\](?:\([^)\s]*)?)?\Z"  # begun, but ending after the window
)
_STYLED = re.compile(
    r"`[^`\n]+`|\*\*[^*\n]+\*\*|__[^_\n]+__|~~[^~\n]+~~|\|\|(?:(?!\n\n)[^|])+\|\|"
    r"|(?:`[^`\n]*|\*\*[^*\n]*|\|\|[^|\n]*)\Z"
)
_SENTENCE_ENDS = frozenset(".!?:;…。！？")
_GRAPHEME = regex.compile(r"\X")


@dataclass(frozen=True, slots=True)
class Piece:
    """A slice of the text, with the fence lines added to make it valid on its own."""

    start: int
    end: int
    opening: str
    closing: str


def units(text: str) -> int:
    """Length in UTF-16 units."""
    return len(text) + sum(character > "\uffff" for character in text)


def split(text: str, limit: int = LIMIT) -> tuple[str, ...]:
    """The messages that show `text`, each of 1 to `limit` units and not blank."""
    return tuple(
        piece.opening + text[piece.start : piece.end] + piece.closing
        for piece in pieces(text, limit)
        if text[piece.start : piece.end].strip()
    )


def pieces(text: str, limit: int = LIMIT) -> Iterator[Piece]:
    """Slices that follow each other without a gap; `limit` is at least 100."""
    start, blocks = 0, Blocks(text)
    while start < len(text):
        span = blocks.open_at(start) if start else None
        opening = span.opening_at(text, start) if span else ""
        last = next((s for s in blocks.spans if not s.is_closed), None)
        closing = last.closing_after(text) if last else ""
        if units(opening) + units(text[start:]) + units(closing) <= limit:
            yield Piece(start, len(text), opening, closing)
            return
        end = _cut(text, start, limit - units(opening), blocks)
        span = blocks.open_at(end)
        yield Piece(start, end, opening, span.closing_after(text[:end]) if span else "")
        start = end


def _cut(text: str, start: int, room: int, blocks: Blocks) -> int:
    """The best place to end a message that begins at `start` and has `room` units."""
    window = _fitting(text, start, room - markers_between(blocks.spans, start, start + room))
    whole = _inside(_WHOLE, text, start, window) | _around_spans(blocks.spans, start, window)
    styled = _inside(_STYLED, text, start, window)
    graphemes = _grapheme_ends(text, start, window)
    half, quarter = start + (window - start) // 2, start + (window - start) // 4

    def tidy(at: int) -> bool:
        return at not in whole and at not in styled and not blocks.breaks_block(at)

    tries: tuple[tuple[int, Callable[[int], bool]], ...] = (
        (half, lambda at: text[at - 1] == "\n" and text[at - 2] == "\n" and tidy(at)),
        (half, lambda at: text[at - 1] == "\n" and tidy(at)),
        (half, lambda at: text[at - 1] == " " and text[at - 2] in _SENTENCE_ENDS and tidy(at)),
        (quarter, lambda at: text[at - 1].isspace() and tidy(at)),
        (start, lambda at: text[at - 1].isspace() and tidy(at)),
        (half, lambda at: text[at - 1].isspace() and at not in whole),
        (start, lambda at: at not in whole and at in graphemes),
        (start, lambda at: at in graphemes),
    )
    for floor, good in tries:
        found = next((at for at in range(window, floor, -1) if good(at)), None)
        if found is not None:
            return found
    return window


def _fitting(text: str, start: int, room: int) -> int:
    """The furthest end with which `text[start:end]` has at most `room` units."""
    end = min(len(text), start + room)
    while units(text[start:end]) > room:
        end -= (units(text[start:end]) - room + 1) // 2
    return end


def _inside(pattern: re.Pattern[str], text: str, start: int, end: int) -> set[int]:
    """Places where a cut would break something that `pattern` finds."""
    return {
        at
        for found in pattern.finditer(text, start, end)
        for at in range(found.start() + 1, found.end())
    }


def _around_spans(spans: Sequence[Span], start: int, end: int) -> set[int]:
    """Places in the markers of spans, and those that would leave an empty code block behind."""
    bad: set[int] = set()
    for span in spans:
        if span.end < start or span.body - len(span.opening) > end:
            continue
        bad.update(range(span.body - len(span.opening) + 1, span.body + 1))
        if span.is_closed:
            bad.update(range(span.close, span.end))
    return bad


def _grapheme_ends(text: str, start: int, end: int) -> frozenset[int]:
    # The text ends early for the search, and with it perhaps the last grapheme: none is as long.
    found = _GRAPHEME.finditer(text, start, end + 64)
    return frozenset(grapheme.end() for grapheme in found)


_EMOJI_NAME = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|<a?:\w+:\d+>|https?://\S+|:(?P<name>\w{2,32}):", re.DOTALL
)


def with_emoji(text: str, emoji: Mapping[str, str]) -> str:
    """`:name:` of a server's own emoji as Discord writes it, but not in code and links."""
    if not emoji:
        return text
    return _EMOJI_NAME.sub(lambda found: emoji.get(found["name"] or "", found[0]), text)


CUT_OFF = "This reply was cut off here."
IN_FILE = "The complete reply is in the file."
FILE_NAME = "reply.md"


class Controls(StrEnum):
    """Which buttons a message carries."""

    NONE = "none"
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Page:
    content: str
    controls: Controls = Controls.NONE
    file: str | None = None
    """The text of an attached file."""


def in_progress(text: str, max_parts: int, *, controls: bool) -> tuple[Page, ...]:
    """The messages for an unfinished text; none while it is blank."""
    parts = split(text)[:max_parts]
    return _with_controls(parts, Controls.RUNNING if controls else Controls.NONE)


def finished(
    text: str, notes: Sequence[str], max_parts: int, *, controls: bool
) -> tuple[Page, ...]:
    """The final messages. Beyond `max_parts` the last message carries the text as a file."""
    parts = split(_noted(text, notes))
    kind = Controls.DONE if controls else Controls.NONE
    if len(parts) <= max_parts:
        return _with_controls(parts, kind)
    shown = split(text)[: max_parts - 1]
    last = Page(_noted("", [IN_FILE, *notes])[:LIMIT], kind, file=text)
    return (*(Page(part) for part in shown), last)


def _with_controls(parts: Sequence[str], kind: Controls) -> tuple[Page, ...]:
    """Only the last message carries buttons."""
    return tuple(
        Page(part, kind if number == len(parts) else Controls.NONE)
        for number, part in enumerate(parts, 1)
    )


def _noted(text: str, notes: Sequence[str]) -> str:
    """Appends notes in Discord's small print."""
    small = "\n".join(f"-# {' '.join(note.split())}" for note in notes)
    return "\n".join(piece for piece in (text, small) if piece)


def pointer(link: str) -> str:
    """The content of an offline message once the answer is in another message."""
    return f"-# Answered below: {link}"
