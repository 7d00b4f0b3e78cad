"""What a platform adds to the stored history: thread starters, reply chains, linked messages.

Nothing of it is stored: it is read from the platform for each reply, so that deleted messages and
people who opted out are respected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from understudy.conversation.inbox import Line
from understudy.conversation.messages import Author, Inbound, Place


@dataclass(frozen=True, slots=True)
class Passage:
    """A message that is not in the history."""

    message_id: str
    author: Author
    text: str
    at: float
    """Wall clock, seconds since the epoch."""
    own: bool = False
    """Written by the bot."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Passages around a history."""

    opening: tuple[Passage, ...] = ()
    """In front of the history, and kept although the prompt is short of room."""
    earlier: tuple[Passage, ...] = ()
    """Between the opening and the history, oldest first."""
    beside: Mapping[str, tuple[Passage, ...]] = field(default_factory=dict)
    """By the id of the message in front of which they are placed."""


class ContextSource(Protocol):
    async def surroundings(
        self, place: Place, batch: Sequence[Inbound], lines: Sequence[Line]
    ) -> Surroundings:
        """For a reply to `batch`, whose history is `lines`. Never raises, and takes a limited
        time: what cannot be read is left out."""
        ...


def with_surroundings(
    lines: Sequence[Line], found: Surroundings, me: Author
) -> tuple[tuple[Line, ...], frozenset[int]]:
    """The history with its surroundings, and the numbers (`seq`) of the opening's lines.

    Added lines have negative numbers, which no stored line has.
    """
    added: list[Line] = []

    def placed(passage: Passage, position: int) -> Line:
        line = _line(passage, -len(added) - 1, position, me)
        added.append(line)
        return line

    first = min((line.position for line in lines), default=0) - 1
    opening = [placed(passage, first) for passage in found.opening]
    complete = [*opening, *(placed(passage, first) for passage in found.earlier)]
    for line in lines:
        beside = found.beside.get(line.message_id, ()) if line.role == "user" else ()
        complete += [placed(passage, line.position) for passage in beside]
        complete.append(line)
    return tuple(complete), frozenset(line.seq for line in opening)


def _line(passage: Passage, seq: int, position: int, me: Author) -> Line:
    return Line(
        seq=seq,
        position=position,
        role="assistant" if passage.own else "user",
        message_id=passage.message_id,
        author=me if passage.own else passage.author,
        text=passage.text,
        at=passage.at,
    )
