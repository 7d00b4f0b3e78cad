"""Timed effects of entries in one conversation, counted in messages: sticky and cooldown."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from understudy.conversation.lore.book import Book, Entry

_FOR_EVER = 10**9


@dataclass(frozen=True, slots=True)
class Effect:
    """Counts of messages in the conversation, all inclusive."""

    since: int
    sticky_until: int
    cooldown_until: int


Effects = Mapping[str, Effect]


@dataclass(frozen=True, slots=True)
class StoredEffects:
    """The stored lore state of one conversation."""

    effects: Effects = field(default_factory=dict)
    message_count: int = 0
    """Number of messages up to `last_seq`."""
    last_seq: int = 0


class EffectStore(Protocol):
    """Stores the effects of each conversation; raises StorageError."""

    async def effects(self, platform: str, channel_id: str) -> StoredEffects: ...

    async def save_effects(self, platform: str, channel_id: str, kept: StoredEffects) -> None: ...


class InMemoryEffects:
    """Effects that last as long as the process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], StoredEffects] = {}

    async def effects(self, platform: str, channel_id: str) -> StoredEffects:
        return self._kept.get((platform, channel_id), StoredEffects())

    async def save_effects(self, platform: str, channel_id: str, kept: StoredEffects) -> None:
        self._kept[platform, channel_id] = kept

    def forget(self, platform: str, channel_id: str) -> None:
        self._kept.pop((platform, channel_id), None)


def effect_key(book: Book, entry: Entry) -> str:
    """Identifies the entry with its content, so that an edit clears its effects."""
    digest = hashlib.sha256(entry.content.encode()).hexdigest()[:12]
    return f"{book.id}/{entry.uid}/{digest}"


def current(effects: Effects, message_count: int) -> dict[str, Effect]:
    """The effects still active. One that began at or after this count belongs to a reply that was
    deleted or is regenerated, and is dropped."""
    return {
        key: effect
        for key, effect in effects.items()
        if effect.since < message_count
        and message_count <= max(effect.sticky_until, effect.cooldown_until)
    }


def is_sticky(effect: Effect | None, message_count: int) -> bool:
    return effect is not None and message_count <= effect.sticky_until


def is_cooling(effect: Effect | None, message_count: int) -> bool:
    return effect is not None and effect.sticky_until < message_count <= effect.cooldown_until


def started(entry: Entry, message_count: int) -> Effect | None:
    """The effect that an activation starts, if any."""
    sticky = _FOR_EVER if entry.decorated.keep_after_match else entry.sticky
    cooldown = _FOR_EVER if entry.decorated.stop_after_match else entry.cooldown
    if not sticky and not cooldown:
        return None
    ends = message_count + sticky
    return Effect(message_count, ends, ends + cooldown if cooldown else 0)
