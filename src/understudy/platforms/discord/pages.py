"""How a text is laid out in Discord messages: pages, notes below them, a file for the very long."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from understudy.platforms.discord.rendering import LIMIT, split

CUT_OFF = "This reply broke off here."
IN_FILE = "The whole reply is in the file."
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
    """What to show of a text that still grows; nothing while it is blank."""
    parts = split(text)[:max_parts]
    return _with_controls(parts, Controls.RUNNING if controls else Controls.NONE)


def finished(
    text: str, notes: Sequence[str], max_parts: int, *, controls: bool
) -> tuple[Page, ...]:
    """What to show for good. Beyond `max_parts` the last message carries the text as a file."""
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
    """Notes stand below the text, in Discord's small print."""
    small = "\n".join(f"-# {' '.join(note.split())}" for note in notes)
    return "\n".join(piece for piece in (text, small) if piece)


def pointer(link: str) -> str:
    """What an offline message shrinks to once the answer stands elsewhere."""
    return f"-# Answered below: {link}"
