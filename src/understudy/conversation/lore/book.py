"""A lorebook: background facts that enter a prompt when their keywords appear."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

Role = Literal["system", "user", "assistant"]


class Logic(IntEnum):
    """How secondary keys are combined. The numbers are those of World Info files."""

    AND_ANY = 0
    NOT_ALL = 1
    NOT_ANY = 2
    AND_ALL = 3


class Slot(IntEnum):
    """An entry's position in the prompt. The numbers are those of World Info files."""

    BEFORE_CHAR = 0
    AFTER_CHAR = 1
    NOTE_TOP = 2
    NOTE_BOTTOM = 3
    AT_DEPTH = 4
    BEFORE_EXAMPLES = 5
    AFTER_EXAMPLES = 6
    OUTLET = 7
    PERSONALITY = 8
    SCENARIO = 9


@dataclass(frozen=True, slots=True)
class CharacterFilter:
    names: frozenset[str]
    tags: frozenset[str]
    exclude: bool

    def admits(self, name: str, tags: frozenset[str]) -> bool:
        """An empty filter admits every character."""
        if not self.names and not self.tags:
            return True
        return (name in self.names or bool(self.tags & tags)) is not self.exclude


@dataclass(frozen=True, slots=True)
class Decorated:
    """What `@@name` lines at the start of an entry's content ask for (card format V3)."""

    forced: bool | None = None
    """`@@activate` and `@@dont_activate`."""
    only_after: int = 0
    """Number of assistant messages required before."""
    only_every: int = 0
    keep_after_match: bool = False
    stop_after_match: bool = False
    extra_keys: tuple[str, ...] = ()
    exclude_keys: tuple[str, ...] = ()
    greeting: int | None = None
    not_when_full: bool = False
    """`@@ignore_on_max_context`: dropped first when the context is short."""
    replaces: frozenset[str] = frozenset()
    """Card prompts this entry disables: `system_prompt`, `post_history_instructions`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact with its activation conditions; defaults are those of World Info."""

    uid: str
    title: str = ""
    keys: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()
    logic: Logic = Logic.AND_ANY
    content: str = ""
    constant: bool = False
    enabled: bool = True
    order: int = 100
    """Higher: later in the prompt, and earlier in the budget queue."""
    slot: Slot = Slot.BEFORE_CHAR
    depth: int = 4
    """For AT_DEPTH: messages counted from the end; 0 is after the last one."""
    depth_from_start: bool = False
    role: Role = "system"
    outlet: str = ""
    probability: float = 100.0
    scan_depth: int | None = None
    case_sensitive: bool | None = None
    whole_words: bool | None = None
    group_scoring: bool | None = None
    exclude_recursion: bool = False
    prevent_recursion: bool = False
    delay_until_recursion: int = 0
    groups: tuple[str, ...] = ()
    group_override: bool = False
    group_weight: int = 100
    sticky: int = 0
    cooldown: int = 0
    delay: int = 0
    ignore_budget: bool = False
    also_match: frozenset[str] = frozenset()
    """Card texts scanned besides the messages: `description`, `personality`, `scenario`, …"""
    triggers: frozenset[str] = frozenset()
    filter: CharacterFilter | None = None
    joined_keys: bool = False
    """A key `fire & ice` needs each of its parts (NovelAI)."""
    regex_keys: bool = False
    """Every key is a pattern (V3 `use_regex`); else only `/pattern/flags` is."""
    decorated: Decorated = field(default_factory=Decorated)


@dataclass(frozen=True, slots=True)
class Book:
    id: str
    name: str
    entries: tuple[Entry, ...]
    scan_depth: int | None = None
    token_budget: int | None = None
    recursive: bool | None = None
    notes: tuple[str, ...] = ()
    """What was changed or ignored while reading the file."""
