"""`@@name value` lines at the start of an entry's content (character card format V3, section 9)."""

from collections.abc import Callable
from dataclasses import replace

from understudy.conversation.lore.book import Entry, Role, Slot

_IGNORED = {
    "instruct_depth",
    "reverse_instruct_depth",
    "instruct_scan_depth",
    "is_user_icon",
}
_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_POSITIONS = {
    "before_desc": Slot.BEFORE_CHAR,
    "after_desc": Slot.AFTER_CHAR,
    "personality": Slot.PERSONALITY,
    "scenario": Slot.SCENARIO,
}


def decorated(entry: Entry) -> Entry:
    """The entry with its decorators applied and their lines removed from its content.

    An unknown `@@name` falls back to the `@@@name` lines directly below it; the first known one
    applies.
    """
    lines = entry.content.split("\n")
    count, open_fallback = 0, False
    for line in lines:
        stripped = line.strip()
        if not stripped.startswith("@@"):
            break
        count += 1
        fallback = stripped.startswith("@@@")
        if fallback and not open_fallback:
            continue
        name, _, value = stripped.lstrip("@").partition(" ")
        changed = _applied(entry, name, value.strip())
        open_fallback = changed is None
        entry = changed or entry
    return replace(entry, content="\n".join(lines[count:])) if count else entry


def _applied(entry: Entry, name: str, value: str) -> Entry | None:
    """The changed entry, or `None` where the decorator is unknown."""
    if name in _IGNORED:
        return entry
    known = _DECORATORS.get(name)
    if known is None:
        return None
    try:
        return known(entry, value)
    except (KeyError, ValueError):
        return None


def _with(entry: Entry, **changes: object) -> Entry:
    return replace(entry, decorated=replace(entry.decorated, **changes))  # type: ignore[arg-type]


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _replaced(entry: Entry, value: str) -> Entry:
    if value not in {"system_prompt", "post_history_instructions"}:
        raise ValueError(value)
    return _with(entry, replaces=entry.decorated.replaces | {value})


_DECORATORS: dict[str, Callable[[Entry, str], Entry]] = {
    "activate": lambda e, _: _with(e, forced=True),
    "dont_activate": lambda e, _: _with(e, forced=False),
    "activate_only_after": lambda e, v: _with(e, only_after=int(v)),
    "activate_only_every": lambda e, v: _with(e, only_every=int(v)),
    "keep_activate_after_match": lambda e, _: _with(e, keep_after_match=True),
    "dont_activate_after_match": lambda e, _: _with(e, stop_after_match=True),
    "depth": lambda e, v: replace(e, slot=Slot.AT_DEPTH, depth=int(v)),
    "reverse_depth": lambda e, v: replace(
        e, slot=Slot.AT_DEPTH, depth=int(v), depth_from_start=True
    ),
    "role": lambda e, v: replace(e, role=_ROLES[v]),
    "scan_depth": lambda e, v: replace(e, scan_depth=int(v)),
    "position": lambda e, v: replace(e, slot=_POSITIONS[v]),
    "is_greeting": lambda e, v: _with(e, greeting=int(v)),
    "additional_keys": lambda e, v: _with(e, extra_keys=_names(v)),
    "exclude_keys": lambda e, v: _with(e, exclude_keys=_names(v)),
    "ignore_on_max_context": lambda e, _: _with(e, not_when_full=True),
    "disable_ui_prompt": _replaced,
}
