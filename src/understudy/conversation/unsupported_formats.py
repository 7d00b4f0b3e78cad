"""Recognises JSON files of other programs that are neither cards nor lorebooks."""

from collections.abc import Callable, Mapping

_Object = Mapping[object, object]


def _has(*names: str) -> Callable[[_Object], bool]:
    return lambda raw: all(name in raw for name in names)


_OBJECTS: dict[str, Callable[[_Object], bool]] = {
    "a KoboldAI story": lambda raw: (
        "gamestarted" in raw or all(name in raw for name in ("prompt", "memory", "actions"))
    ),
    "a NovelAI story": _has("storyContainerVersion"),
    "a NovelAI scenario": _has("scenarioVersion"),
    "an AI Dungeon scenario": lambda raw: _is_story_cards(raw.get("storyCards")),
    "a SillyTavern preset": _has("prompts", "prompt_order"),
}


def unsupported_format(raw: object) -> str | None:
    """What the file is, for an error message; None when it is not recognised."""
    if isinstance(raw, Mapping):
        return next((name for name, test in _OBJECTS.items() if test(raw)), None)
    return "a list of AI Dungeon story cards" if _is_story_cards(raw) else None


def _is_story_cards(raw: object) -> bool:
    """AI Dungeon exports the keys as one string, and the text as `value` or `entry`."""
    if not isinstance(raw, list) or not raw or not isinstance(raw[0], Mapping):
        return False
    first = raw[0]
    return isinstance(first.get("keys"), str) and not first.keys().isdisjoint({"value", "entry"})
