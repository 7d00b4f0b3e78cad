"""Selects the entries of a prompt, with a reason for each that is skipped.

The first pass scans the messages, later passes the text of the entries activated so far. Each pass
applies conditions, inclusion groups, probability and the budget. An entry that does not fit the
budget is skipped; smaller ones after it can still be activated.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from understudy.conversation.lore.book import Book, Entry
from understudy.conversation.lore.effects import (
    Effect,
    Effects,
    current,
    effect_key,
    is_cooling,
    is_sticky,
    started,
)
from understudy.conversation.lore.groups import pick_from_groups
from understudy.conversation.lore.matching import Hit, KeyIndex, Scanned, match
from understudy.conversation.lore.patterns import PatternSearch, pattern_in
from understudy.conversation.lore.scene import (
    Activated,
    Budget,
    By,
    Lore,
    LoreSettings,
    Scene,
    Skipped,
    Why,
)
from understudy.conversation.macros import hidden_keys

_MAX_STEPS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An entry that matched in one pass; compared by identity."""

    book: Book
    entry: Entry
    by: By
    hit: Hit | None


class IndexedBook:
    """A book prepared for scanning; made once per version of its file."""

    def __init__(self, book: Book) -> None:
        self.book = book
        kinds: dict[tuple[int | None, frozenset[str]], list[Entry]] = {}
        for entry in book.entries:
            if entry.enabled and entry.content.strip():
                kinds.setdefault((entry.scan_depth, entry.also_match), []).append(entry)
        self.kinds = [(kind, KeyIndex(found), found) for kind, found in kinds.items()]
        self.unkeyed = [
            entry
            for entry in book.entries
            if entry.enabled
            and entry.content.strip()
            and (entry.constant or entry.decorated.forced is True)
        ]
        self.timed = [e for e in book.entries if e.sticky or e.decorated.keep_after_match]
        self.has_patterns = any(
            pattern_in(key, bare=entry.regex_keys) is not None
            for _, _, entries in self.kinds
            for entry in entries
            for key in (*entry.keys, *entry.secondary, *entry.decorated.extra_keys)
        )
        self.levels = {e.delay_until_recursion for e in book.entries if e.delay_until_recursion}


@dataclass(frozen=True, slots=True)
class Reader:
    """Settings, budget and patterns of a scan."""

    settings: LoreSettings
    budget: Budget
    patterns: PatternSearch
    expand: Callable[[str], str] = str
    """Expands macros in keys and contents; the identity where there are none."""


def scan(books: Sequence[IndexedBook], scene: Scene, reader: Reader, effects: Effects) -> Lore:
    """Select the lore for one prompt. Pure except for what `reader.patterns` records."""
    return _Scan(books, scene, reader, effects).run()


class _Scan:
    def __init__(
        self, books: Sequence[IndexedBook], scene: Scene, reader: Reader, effects: Effects
    ) -> None:
        self._books = books
        self._scene = scene
        self._reader = reader
        self._effects = current(effects, scene.message_count)
        self._random = Random(scene.seed)  # noqa: S311 - not a secret
        self._active: dict[tuple[str, str], Activated] = {}
        self._out: dict[tuple[str, str], Skipped] = {}
        self._named: list[str] = []
        self._fresh: list[str] = []
        """What the latest pass added to `_named`."""
        self._found: dict[int, set[int]] = {}
        self._used = 0
        self._used_by_book: dict[str, int] = {}

    def run(self) -> Lore:
        levels = sorted(set().union(*(book.levels for book in self._books)))
        level, found = 0, self._pass(0, 0)
        for step in range(1, _MAX_STEPS):
            if not found:
                if not levels:
                    break
                level = levels.pop(0)
            found = self._pass(step, level)
        ordered = sorted(self._active.values(), key=lambda a: (a.entry.order, a.step))
        return Lore(tuple(ordered), tuple(self._out.values()), self._effects_after())

    def _pass(self, step: int, level: int) -> bool:
        """One pass; True when it added text that may match further entries."""
        candidates = [c for book in self._books for c in self._candidates(book, step, level)]
        candidates.sort(key=lambda c: (c.by is not By.STICKY, -c.entry.order))
        kept = pick_from_groups(
            candidates,
            active={g for a in self._active.values() for g in a.entry.groups},
            scoring=self._reader.settings.group_scoring,
            random=self._random,
        )
        admitted = set(kept)
        for candidate in candidates:
            if candidate not in admitted:
                self._skip(candidate, Why.GROUP)
        passed = [candidate for candidate in kept if self._rolls(candidate)]
        before = len(self._named)
        for candidate in sorted(passed, key=lambda c: (c.by, -c.entry.order)):
            self._admit(candidate, step)
        self._fresh = self._named[before:]
        return bool(self._fresh)

    def _candidates(self, indexed: IndexedBook, step: int, level: int) -> Iterable[Candidate]:
        recursive = indexed.book.recursive
        if step and not (self._reader.settings.recursive if recursive is None else recursive):
            return
        seen: set[str] = set()
        for entry in (*indexed.unkeyed, *self._sticky(indexed)):
            candidate = self._through_gates(indexed.book, entry, None, (step, level))
            if candidate is not None and entry.uid not in seen:
                seen.add(entry.uid)
                yield candidate
        for (depth, also), index, entries in indexed.kinds:
            scanned = self._scanned(indexed.book, depth, also, step)
            for at in sorted(self._possible(index, scanned, step)):
                entry = entries[at]
                if entry.uid not in seen:
                    candidate = self._through_gates(indexed.book, entry, scanned, (step, level))
                    if candidate is not None:
                        yield candidate

    def _possible(self, index: KeyIndex, scanned: Scanned, step: int) -> set[int]:
        """Positions of the entries that the text may match. Text is only added, so a later pass
        searches its new part and keeps the earlier results."""
        known = self._found.setdefault(id(index), set())
        fresh = Scanned("\n".join(self._fresh), self._reader.patterns) if step else scanned
        known |= index.candidates(fresh, self._reader.settings.matching)
        return known

    def _sticky(self, indexed: IndexedBook) -> list[Entry]:
        count = self._scene.message_count
        return [
            e
            for e in indexed.timed
            if is_sticky(self._effects.get(effect_key(indexed.book, e)), count)
        ]

    def _scanned(self, book: Book, depth: int | None, also: frozenset[str], step: int) -> Scanned:
        if depth is None:
            depth = self._reader.settings.scan_depth if book.scan_depth is None else book.scan_depth
        names = self._reader.settings.include_names
        recent = self._scene.messages[-depth:] if depth else ()
        parts = [f"\x01{m.name}: {m.text}" if names else f"\x01{m.text}" for m in recent[::-1]]
        parts += [self._scene.texts[name] for name in sorted(also) if name in self._scene.texts]
        if step:
            parts += self._named
        return Scanned("\n".join(parts), self._reader.patterns)

    def _through_gates(
        self, book: Book, entry: Entry, scanned: Scanned | None, at: tuple[int, int]
    ) -> Candidate | None:
        identity = (book.id, entry.uid)
        if identity in self._active or identity in self._out:
            return None
        effect = self._effects.get(effect_key(book, entry))
        sticky = is_sticky(effect, self._scene.message_count)
        step, level = at
        if not sticky and self._waits_for_recursion(entry, step, level):
            return None
        admitted = self._matched(book, entry, scanned, sticky=sticky, step=step)
        if admitted is None:
            return None
        why = self._blocked(entry, effect, sticky=sticky)
        if why is not None:
            self._skip(admitted, why)
            return None
        return admitted

    def _waits_for_recursion(self, entry: Entry, step: int, level: int) -> bool:
        if entry.delay_until_recursion:
            return step == 0 or entry.delay_until_recursion > max(level, 1)
        return step > 0 and entry.exclude_recursion

    def _blocked(self, entry: Entry, effect: Effect | None, *, sticky: bool) -> Why | None:
        scene, marks = self._scene, entry.decorated
        if entry.filter is not None and not entry.filter.admits(scene.character, scene.tags):
            return Why.CHARACTER
        if entry.triggers and scene.trigger not in entry.triggers:
            return Why.DECORATOR
        if scene.message_count < entry.delay:
            return Why.DELAY
        if not sticky and is_cooling(effect, scene.message_count):
            return Why.COOLDOWN
        blocked = (
            marks.forced is False
            or scene.reply_count < marks.only_after
            or (marks.only_every > 0 and scene.reply_count % marks.only_every != 0)
            or (marks.greeting is not None and marks.greeting != scene.greeting)
        )
        return Why.DECORATOR if blocked else None

    def _matched(
        self, book: Book, entry: Entry, scanned: Scanned | None, *, sticky: bool, step: int
    ) -> Candidate | None:
        if entry.constant or entry.decorated.forced is True:
            return Candidate(book, entry, _rank(entry, By.CONSTANT), None)
        if sticky:
            return Candidate(book, entry, _rank(entry, By.STICKY), None)
        if scanned is None:
            return None
        expanded = {
            key: self._reader.expand(key).strip()
            for key in (*entry.keys, *entry.secondary)
            if "{{" in key
        }
        hit = match(entry, scanned, self._reader.settings.matching, expanded)
        if hit is None:
            return None
        return Candidate(book, entry, _rank(entry, By.RECURSION if step else By.KEY), hit)

    def _rolls(self, candidate: Candidate) -> bool:
        chance = candidate.entry.probability
        if candidate.by is By.STICKY or chance >= 100:
            return True
        # SillyTavern compares with <=, so that 0 % passes occasionally; here 0 means never.
        if chance > 0 and self._random.uniform(0, 100) <= chance:
            return True
        self._skip(candidate, Why.CHANCE)
        return False

    def _admit(self, candidate: Candidate, step: int) -> None:
        book, entry = candidate.book, candidate.entry
        text = self._reader.expand(entry.content).strip()
        if not text:
            return
        if any(o.text == text and o.book.id != book.id for o in self._active.values()):
            # A card's own book is often in the lorebooks folder too.
            self._skip(candidate, Why.TWICE)
            return
        tokens = self._reader.budget.count(text)
        used_here = self._used_by_book.get(book.id, 0)
        if not entry.ignore_budget:
            limit = book.token_budget
            over_book = limit is not None and used_here + tokens > limit
            if over_book or self._used + tokens > self._reader.budget.tokens:
                self._skip(candidate, Why.BUDGET)
                return
            self._used += tokens
            self._used_by_book[book.id] = used_here + tokens
        key = candidate.hit.key if candidate.hit else None
        activated = Activated(book, entry, candidate.by, key, step, text, tokens)
        self._active[book.id, entry.uid] = activated
        if not entry.prevent_recursion:
            self._named.append(f"{text}\n{hidden_keys(entry.content)}")

    def _skip(self, candidate: Candidate, why: Why) -> None:
        key = candidate.hit.key if candidate.hit else None
        identity = (candidate.book.id, candidate.entry.uid)
        self._out[identity] = Skipped(candidate.book, candidate.entry, why, key)

    def _effects_after(self) -> dict[str, Effect]:
        after = dict(self._effects)
        for activated in self._active.values():
            key = effect_key(activated.book, activated.entry)
            effect = started(activated.entry, self._scene.message_count)
            if effect is not None:
                after.setdefault(key, effect)
        return after


def _rank(entry: Entry, by: By) -> By:
    if entry.ignore_budget:
        return By.IGNORING_BUDGET
    return By.SPARE if entry.decorated.not_when_full else by
