"""Which keys of a book occur in a text: fast for thousands of entries.

Plain keys are searched as substrings first; word boundaries (`conversation.words`) are checked only
for hits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from understudy.conversation.lore.book import Entry, Logic
from understudy.conversation.lore.patterns import INVALID, YES, PatternSearch, pattern_in
from understudy.conversation.words import has_word, is_alphabetic_word, normalized, words_in

_HEAD_CHARS = 6


@dataclass(frozen=True, slots=True)
class MatchSettings:
    case_sensitive: bool = False
    whole_words: bool = True


@dataclass(frozen=True, slots=True)
class Hit:
    """How an entry matched."""

    key: str
    score: int
    """Keys found, by the counting that inclusion groups use."""


class Scanned:
    """One text, prepared for many key searches."""

    def __init__(self, text: str, patterns: PatternSearch) -> None:
        self._text = text
        self.folded = normalized(text)
        self.words = words_in(self.folded)
        self._patterns = patterns
        self._exact: str | None = None

    def has(self, key: str, entry: Entry, settings: MatchSettings) -> bool:
        pattern = pattern_in(key, bare=entry.regex_keys)
        if pattern is not None:
            outcome = self._patterns.find(pattern, self._text)
            if outcome != INVALID:
                return outcome == YES
        parts = _parts(key, entry)
        if len(parts) > 1:
            return all(self.has(part, entry, settings) for part in parts)
        exact = _override(entry.case_sensitive, settings.case_sensitive)
        wanted = _key(key, exact=exact)
        text = self.exact if exact else self.folded
        if not wanted or wanted not in text:
            return False
        # As in SillyTavern, a phrase is found in the middle of words too.
        anywhere = " " in wanted or not _override(entry.whole_words, settings.whole_words)
        return anywhere or has_word(text, wanted)

    @property
    def exact(self) -> str:
        """Normalised, with upper and lower case."""
        if self._exact is None:
            self._exact = normalized(self._text, fold=False)
        return self._exact


@lru_cache(maxsize=16_384)
def _key(key: str, *, exact: bool = False) -> str:
    return normalized(key, fold=not exact)


def _parts(key: str, entry: Entry) -> list[str]:
    if not entry.joined_keys:
        return [key]
    return [part.strip() for part in key.split("&") if part.strip()] or [key]


def _override(own: bool | None, common: bool) -> bool:  # noqa: FBT001 - a three-valued setting
    return common if own is None else own


def match(
    entry: Entry,
    scanned: Scanned,
    settings: MatchSettings,
    expanded: Mapping[str, str] | None = None,
) -> Hit | None:
    """Evaluate an entry's keys; `expanded` maps keys with macros to their text."""
    hits = [key for key in _keys(entry) if scanned.has(_text(key, expanded), entry, settings)]
    if not hits:
        return None
    if any(
        scanned.has(_text(key, expanded), entry, settings) for key in entry.decorated.exclude_keys
    ):
        return None
    found = sum(scanned.has(_text(key, expanded), entry, settings) for key in entry.secondary)
    if entry.secondary and not _satisfied(entry.logic, found, len(entry.secondary)):
        return None
    return Hit(hits[0], len(hits) + _secondary_score(entry.logic, found, len(entry.secondary)))


def _keys(entry: Entry) -> Iterable[str]:
    return (*entry.keys, *entry.decorated.extra_keys)


def _text(key: str, expanded: Mapping[str, str] | None) -> str:
    return expanded.get(key, key) if expanded else key


def _satisfied(logic: Logic, found: int, total: int) -> bool:
    return {
        Logic.AND_ANY: found > 0,
        Logic.AND_ALL: found == total,
        Logic.NOT_ANY: found == 0,
        Logic.NOT_ALL: found < total,
    }[logic]


def _secondary_score(logic: Logic, found: int, total: int) -> int:
    if logic is Logic.AND_ANY:
        return found
    if logic is Logic.AND_ALL and found == total:
        return total
    return 0


class KeyIndex:
    """Finds the entries that a text may match without testing each of them.

    Whole words are looked up by the words of the text, other plain keys by their first
    characters, so that the cost grows with the text and not with the book; patterns and macros
    are always candidates.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._words: dict[str, list[int]] = {}
        self._pieces = _Pieces()
        # Single words whose whole-word rule depends on the settings are in both of these.
        self._words_by_setting: dict[str, list[int]] = {}
        self._pieces_by_setting = _Pieces()
        self._always: list[int] = []
        for at, entry in enumerate(entries):
            for key in _keys(entry):
                self._place(key, entry, at)

    def candidates(self, scanned: Scanned, settings: MatchSettings) -> set[int]:
        """Positions of all entries of which some key may be in the text."""
        found = set(self._always)
        found.update(_named(self._words, scanned.words))
        found.update(self._pieces.within(scanned.folded))
        if settings.whole_words:
            found.update(_named(self._words_by_setting, scanned.words))
        else:
            found.update(self._pieces_by_setting.within(scanned.folded))
        return found

    def _place(self, key: str, entry: Entry, at: int) -> None:
        if "{{" in key or pattern_in(key, bare=entry.regex_keys) is not None:
            self._always.append(at)
            return
        # All parts are checked once the first one is found.
        first = _parts(key, entry)[0]
        if pattern_in(first, bare=False) is not None:
            self._always.append(at)
            return
        folded = _key(first)
        if not is_alphabetic_word(folded) or entry.whole_words is False:
            self._pieces.add(folded, at)
        elif entry.whole_words:
            self._words.setdefault(folded, []).append(at)
        else:
            self._words_by_setting.setdefault(folded, []).append(at)
            self._pieces_by_setting.add(folded, at)


class _Pieces:
    """Substring keys, indexed by their first characters."""

    def __init__(self) -> None:
        self._by_head: dict[str, dict[str, list[int]]] = {}
        self._sizes: set[int] = set()

    def add(self, piece: str, at: int) -> None:
        head = piece[:_HEAD_CHARS]
        self._sizes.add(len(head))
        self._by_head.setdefault(head, {}).setdefault(piece, []).append(at)

    def within(self, text: str) -> Iterable[int]:
        heads = {text[i : i + size] for size in self._sizes for i in range(len(text))}
        for head in heads & self._by_head.keys():
            for piece, places in self._by_head[head].items():
                if piece in text:
                    yield from places


def _named(index: Mapping[str, list[int]], words: Iterable[str]) -> Iterable[int]:
    return (at for word in words if word in index for at in index[word])
