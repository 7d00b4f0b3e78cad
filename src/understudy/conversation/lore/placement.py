"""Positions of activated entries in a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.conversation.lore.book import Role, Slot
from understudy.conversation.lore.scene import Activated, By

_LATE_DEPTH = 1
_NOTE_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Insert:
    """A text among the messages; `depth` counts from the end, 0 is after the last one."""

    depth: int
    role: Role
    text: str


class Placed:
    """Activated entries by position."""

    def __init__(
        self, activated: Sequence[Activated], message_count: int, *, cache_friendly: bool
    ) -> None:
        self._message_count = message_count
        self._slots: dict[Slot, list[Activated]] = {}
        self._deep: list[Activated] = []
        for entry in activated:
            moves = cache_friendly and entry.by is not By.CONSTANT
            if entry.entry.slot is Slot.AT_DEPTH or (moves and entry.entry.slot is not Slot.OUTLET):
                self._deep.append(entry)
            else:
                self._slots.setdefault(entry.entry.slot, []).append(entry)

    @property
    def outlets(self) -> dict[str, str]:
        named: dict[str, list[str]] = {}
        for activated in self._slots.get(Slot.OUTLET, ()):
            named.setdefault(activated.entry.outlet, []).append(activated.text)
        return {name: "\n".join(texts) for name, texts in named.items()}

    def at(self, slot: Slot) -> str:
        return "\n".join(activated.text for activated in self._slots.get(slot, ()))

    def inserts(self, note: Insert | None) -> tuple[Insert, ...]:
        """Texts among the messages, those of one depth and role joined."""
        found: dict[tuple[int, Role], list[str]] = {}
        for activated in self._deep:
            found.setdefault(self._where(activated), []).append(activated.text)
        if note is not None:
            top, bottom = self.at(Slot.NOTE_TOP), self.at(Slot.NOTE_BOTTOM)
            texts = [text for text in (top, note.text, bottom) if text]
            found.setdefault((note.depth, note.role), []).extend(texts)
        else:
            notes = [text for text in map(self.at, (Slot.NOTE_TOP, Slot.NOTE_BOTTOM)) if text]
            if notes:
                found.setdefault((_NOTE_DEPTH, "system"), []).extend(notes)
        return tuple(
            Insert(depth, role, "\n".join(texts)) for (depth, role), texts in found.items()
        )

    def _where(self, activated: Activated) -> tuple[int, Role]:
        entry = activated.entry
        if entry.slot is not Slot.AT_DEPTH:
            return _LATE_DEPTH, "system"
        if entry.depth_from_start:
            return max(0, self._message_count - entry.depth), entry.role
        return entry.depth, entry.role
