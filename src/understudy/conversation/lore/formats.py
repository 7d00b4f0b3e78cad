"""Parses the known lorebook formats into `Book`. Missing fields get their format's default."""

from collections.abc import Mapping
from dataclasses import replace

from understudy.conversation.lenient_fields import Fields
from understudy.conversation.lore.book import Book, CharacterFilter, Entry, Logic, Role, Slot
from understudy.conversation.lore.decorators import decorated
from understudy.conversation.unsupported_formats import unsupported_format
from understudy.errors import PersonaError

_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_ALSO_MATCH = {
    "persona_description": "matchPersonaDescription",
    "description": "matchCharacterDescription",
    "personality": "matchCharacterPersonality",
    "depth_prompt": "matchCharacterDepthPrompt",
    "scenario": "matchScenario",
    "creator_notes": "matchCreatorNotes",
}
_MAX_ENTRIES = 20_000
_MAX_KEYS = 200


def parse_book(raw: object, *, book_id: str, name: str = "") -> Book | None:
    """The lorebook in a parsed JSON file, or `None` when its format is unknown.

    Raises PersonaError for a file of another program that is recognised.
    """
    if (other := unsupported_format(raw)) is not None:
        raise PersonaError(f"this is {other}, which is not supported")
    notes: list[str] = []
    # JanitorAI exports the entries alone.
    top = Fields({"entries": raw} if isinstance(raw, list) else raw, notes, "book")
    if top.text("spec") == "lorebook_v3":
        top = top.inner("data")
    entries = _entries(top, notes)
    if entries is None:
        return None
    if len(entries) > _MAX_ENTRIES:
        notes.append(f"only the first {_MAX_ENTRIES} of {len(entries)} entries were read")
    return Book(
        id=book_id,
        name=top.text("name") or name or book_id,
        entries=tuple(decorated(entry) for entry in entries[:_MAX_ENTRIES]),
        scan_depth=top.maybe_integer("scan_depth"),
        token_budget=top.maybe_integer("token_budget"),
        recursive=top.maybe_flag("recursive_scanning"),
        notes=tuple(notes),
    )


def _entries(top: Fields, notes: list[str]) -> list[Entry] | None:
    raw = top.get("entries")
    if top.has("lorebookVersion"):
        return _novelai_entries(top, notes)
    if top.text("kind") == "memory":
        return [_agnai(Fields(e, notes, "entry"), i) for i, e in enumerate(top.items("entries"))]
    if top.text("type") == "risu":
        return _risu_entries([Fields(e, notes, "entry") for e in top.items("data")])
    if isinstance(raw, Mapping):
        return [_any_entry(Fields(e, notes, f"entry {uid}"), str(uid)) for uid, e in raw.items()]
    if isinstance(raw, list) and (not raw or any(isinstance(e, Mapping) for e in raw)):
        return [_any_entry(Fields(e, notes, f"entry {i}"), str(i)) for i, e in enumerate(raw)]
    return None


def _any_entry(f: Fields, uid: str) -> Entry:
    """World Info entries and those of cards occur both in lists and by uid."""
    is_world_info = f.has("key") and not (f.has("keys") or f.has("insertion_order"))
    return _world_info(f, uid) if is_world_info else _character_book(f, uid)


def _world_info(f: Fields, uid: str) -> Entry:
    plain = Entry(
        uid=f.text("uid", default=uid),
        title=f.text("comment"),
        keys=f.texts("key", "keys")[:_MAX_KEYS],
        secondary=_secondary(f, "keysecondary", selective_default=True),
        content=f.text("content"),
        constant=f.flag("constant"),
        enabled=_enabled(f),
        order=f.integer("order", default=100),
        slot=_slot(f.integer("position", default=0)),
    )
    return _extended(plain, f)


def _character_book(f: Fields, uid: str) -> Entry:
    extensions = f.inner("extensions")
    from_st = extensions.has("selectiveLogic") or extensions.has("display_index")
    # SillyTavern exports `use_regex: true` for every entry, though its keys are plain text.
    patterns = f.flag("use_regex") and not from_st
    spoken = f.text("position", default="after_char")
    plain = Entry(
        uid=f.text("id", "uid", default=uid),
        title=f.text("comment", "name"),
        keys=f.texts("keys", "key")[:_MAX_KEYS],
        secondary=()
        if patterns
        else _secondary(f, "secondary_keys", "keysecondary", selective_default=False),
        content=f.text("content"),
        constant=f.flag("constant") and not patterns,
        enabled=_enabled(f),
        order=f.integer("insertion_order", "order", "priority", default=100),
        slot=_slot(extensions.integer("position", default=int(spoken != "before_char"))),
        regex_keys=patterns,
    )
    entry = _extended(plain, extensions)
    if entry.case_sensitive is None:
        entry = replace(entry, case_sensitive=f.maybe_flag("case_sensitive"))
    return entry


def _extended(entry: Entry, f: Fields) -> Entry:
    """The fields that World Info spells in camel case and card extensions in snake case."""
    scan_depth = f.maybe_integer("scan_depth", "scanDepth")
    return replace(
        entry,
        logic=_logic(f.integer("selectiveLogic", "selective_logic")),
        depth=max(0, f.integer("depth", default=4)),
        role=_role(f.integer("role")),
        outlet=f.text("outlet_name", "outletName"),
        probability=_probability(f),
        scan_depth=None if scan_depth is None else min(max(0, scan_depth), 1000),
        case_sensitive=f.maybe_flag("case_sensitive", "caseSensitive"),
        whole_words=f.maybe_flag("match_whole_words", "matchWholeWords"),
        group_scoring=f.maybe_flag("use_group_scoring", "useGroupScoring"),
        exclude_recursion=f.flag("exclude_recursion", "excludeRecursion"),
        prevent_recursion=f.flag("prevent_recursion", "preventRecursion"),
        delay_until_recursion=f.integer("delay_until_recursion", "delayUntilRecursion"),
        groups=f.texts("group"),
        group_override=f.flag("group_override", "groupOverride"),
        group_weight=max(1, f.integer("group_weight", "groupWeight", default=100)),
        sticky=max(0, f.integer("sticky")),
        cooldown=max(0, f.integer("cooldown")),
        delay=max(0, f.integer("delay")),
        ignore_budget=f.flag("ignore_budget", "ignoreBudget"),
        also_match=frozenset(
            source for source, name in _ALSO_MATCH.items() if f.flag(f"match_{source}", name)
        ),
        triggers=frozenset(f.texts("triggers")),
        filter=_filter(f),
    )


def _probability(f: Fields) -> float:
    if not f.flag("useProbability", "use_probability", default=True):
        return 100.0
    return min(max(f.number("probability", default=100.0), 0.0), 100.0)


def _filter(f: Fields) -> CharacterFilter | None:
    if not f.has("characterFilter"):
        return None
    inner = f.inner("characterFilter")
    return CharacterFilter(
        names=frozenset(inner.texts("names")),
        tags=frozenset(inner.texts("tags")),
        exclude=inner.flag("isExclude"),
    )


def _secondary(f: Fields, *names: str, selective_default: bool) -> tuple[str, ...]:
    selective = f.flag("selective", default=selective_default)
    return f.texts(*names)[:_MAX_KEYS] if selective else ()


def _enabled(f: Fields) -> bool:
    return f.flag("enabled", default=True) and not f.flag("disable")


def _slot(number: int) -> Slot:
    return Slot(number) if 0 <= number <= Slot.OUTLET else Slot.BEFORE_CHAR


def _logic(number: int) -> Logic:
    return Logic(number) if number in set(Logic) else Logic.AND_ANY


def _role(number: int) -> Role:
    return _ROLES[number] if 0 <= number < len(_ROLES) else "system"


def _novelai_entries(top: Fields, notes: list[str]) -> list[Entry]:
    categories = [Fields(c, notes, "category") for c in top.items("categories")]
    disabled = {c.text("id") for c in categories if not c.flag("enabled", default=True)}
    entries = [Fields(e, notes, f"entry {i}") for i, e in enumerate(top.items("entries"))]
    return [_novelai(entry, i, disabled) for i, entry in enumerate(entries)]


def _novelai(f: Fields, index: int, disabled_categories: set[str]) -> Entry:
    priority = f.inner("contextConfig").integer("budgetPriority", default=100)
    category = f.text("category")
    return Entry(
        uid=f.text("id", default=str(index)),
        title=f.text("displayName"),
        keys=f.texts("keys")[:_MAX_KEYS],
        joined_keys=True,
        content=f.text("text"),
        constant=f.flag("forceActivation"),
        enabled=_enabled(f) and category not in disabled_categories,
        order=priority,
    )


def _agnai(f: Fields, index: int) -> Entry:
    return Entry(
        uid=str(index),
        title=f.text("name"),
        keys=f.texts("keywords")[:_MAX_KEYS],
        content=f.text("entry"),
        enabled=_enabled(f),
        order=f.integer("weight", default=100),
    )


def _risu_entries(entries: list[Fields]) -> list[Entry]:
    """A `child` repeats the entry of its id in another place; a `folder` has no text."""
    originals = {f.text("id"): f for f in reversed(entries) if f.text("mode") != "child"}
    return [
        _risu(originals.get(f.text("id"), f) if f.text("mode") == "child" else f, i)
        for i, f in enumerate(entries)
        if f.text("mode") != "folder"
    ]


def _risu(f: Fields, index: int) -> Entry:
    patterns = f.flag("useRegex")
    return Entry(
        uid=str(index),
        title=f.text("comment"),
        # The key of a regular expression is one pattern, whatever commas are in it.
        keys=(f.text("key"),) if patterns else f.texts("key")[:_MAX_KEYS],
        secondary=f.texts("secondkey")[:_MAX_KEYS] if f.flag("selective") else (),
        content=f.text("content"),
        constant=f.flag("alwaysActive") or f.text("mode") == "constant",
        enabled=_enabled(f),
        order=f.integer("insertorder", default=100),
        probability=min(max(f.number("activationPercent", default=100.0), 0.0), 100.0),
        regex_keys=patterns,
    )
