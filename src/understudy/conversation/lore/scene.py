"""Input and result types of a lore scan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from understudy.conversation.lore.book import Book, Entry
from understudy.conversation.lore.effects import Effect
from understudy.conversation.lore.matching import MatchSettings


@dataclass(frozen=True, slots=True)
class LoreSettings:
    """Defaults for books without their own settings; SillyTavern's shipped values."""

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
    """The conversation that is scanned."""

    messages: tuple[Spoken, ...]
    """Newest last."""
    message_count: int
    """All messages of the conversation, not only `messages`."""
    seed: str
    """Makes random choices equal for every candidate of one reply."""
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
    """Why an entry was activated; lower values get budget first."""

    IGNORING_BUDGET = 0
    CONSTANT = 1
    STICKY = 2
    KEY = 3
    RECURSION = 4
    SPARE = 5
    """Only while there is room: `@@ignore_on_max_context`."""


class Why(StrEnum):
    """Why an entry that could have been activated was not."""

    COOLDOWN = "in cooldown"
    DELAY = "the conversation has too few messages"
    CHARACTER = "not for this character"
    DECORATOR = "excluded by its decorators"
    GROUP = "another entry of its group was selected"
    CHANCE = "excluded by its probability"
    BUDGET = "over the token budget"
    TWICE = "its text is there already"


@dataclass(frozen=True, slots=True)
class Activated:
    book: Book
    entry: Entry
    by: By
    key: str | None
    step: int
    """0 is the first pass; from 1 on it was matched by the text of other entries."""
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
    """To be saved for the conversation once the reply has been delivered."""
