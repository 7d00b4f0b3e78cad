"""What a lore scan is told and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from understudy.conversation.lore.book import Book, Entry
from understudy.conversation.lore.effects import Effect
from understudy.conversation.lore.matching import MatchSettings


@dataclass(frozen=True, slots=True)
class LoreSettings:
    """How books without settings of their own are read; the reference's shipped values."""

    scan_depth: int = 2
    recursive: bool = True
    include_names: bool = True
    group_scoring: bool = False
    matching: MatchSettings = field(default_factory=MatchSettings)


@dataclass(frozen=True, slots=True)
class Spoken:
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What is going on where the reply is wanted."""

    messages: tuple[Spoken, ...]
    """Newest last."""
    message_count: int
    """All messages of the conversation, not only those above."""
    seed: str
    """Makes the dice fall the same way for every candidate of one reply."""
    reply_count: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    """The card's texts that entries may scan too, by the names of `Entry.also_match`."""
    character: str = ""
    tags: frozenset[str] = frozenset()
    trigger: str = "normal"
    greeting: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    tokens: int
    count: Callable[[str], int]
    """Tokens of a text."""


class By(IntEnum):
    """What let an entry in; lower goes through the budget first."""

    IGNORING_BUDGET = 0
    CONSTANT = 1
    STICKY = 2
    KEY = 3
    RECURSION = 4
    SPARE = 5
    """Wanted only while there is room: `@@ignore_on_max_context`."""


class Why(StrEnum):
    """Why an entry that could have entered did not."""

    COOLDOWN = "still cooling down"
    DELAY = "the conversation is too young"
    CHARACTER = "not for this character"
    DECORATOR = "held back by its decorators"
    GROUP = "another entry of its group was taken"
    CHANCE = "the dice said no"
    BUDGET = "no room left in the budget"


@dataclass(frozen=True, slots=True)
class Activated:
    book: Book
    entry: Entry
    by: By
    key: str | None
    step: int
    """0 is the first pass, 1 and above were named by other entries."""
    text: str
    """The content with its macros expanded."""
    tokens: int


@dataclass(frozen=True, slots=True)
class Skipped:
    book: Book
    entry: Entry
    why: Why
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Lore:
    """The result of a scan; `activated` in prompt order, lowest order first."""

    activated: tuple[Activated, ...]
    skipped: tuple[Skipped, ...]
    effects: Mapping[str, Effect]
    """To be kept for the conversation once the reply has been given."""
