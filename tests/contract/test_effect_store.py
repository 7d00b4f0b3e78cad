"""The contract of EffectStore, over every implementation."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from postgres_server import KINDS, database_location
from understudy.conversation.inbox import Channel
from understudy.conversation.lore.effects import Effect, EffectStore, InMemoryEffects, StoredEffects
from understudy.conversation.preferences import ChannelPreferences
from understudy.storage.database import Database
from understudy.storage.inbox import SqlInbox
from understudy.storage.lore_effects import SqlEffects
from understudy.storage.preferences import SqlPreferences

KEPT = StoredEffects({"farm/1/abc": Effect(since=3, sticky_until=5, cooldown_until=9)}, 7, 41)


@pytest.fixture(params=["memory", *KINDS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[EffectStore]:
    if request.param == "memory":
        yield InMemoryEffects()
        return
    with database_location(request.param, tmp_path) as location:
        database = await Database.open(location)
        yield SqlEffects(database)
        await database.aclose()


async def test_a_new_conversation_has_no_effects(store: EffectStore) -> None:
    assert await store.effects("discord", "1") == StoredEffects()


async def test_effects_are_kept_per_conversation(store: EffectStore) -> None:
    await store.save_effects("discord", "1", StoredEffects())
    await store.save_effects("discord", "1", KEPT)

    assert await store.effects("discord", "1") == KEPT
    assert await store.effects("web", "1") == StoredEffects()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reset_conversation_starts_without_effects_and_keeps_its_preferences(
    kind: str, tmp_path: Path
) -> None:
    with database_location(kind, tmp_path) as location:
        await _reset_keeps_preferences(await Database.open(location))


async def _reset_keeps_preferences(database: Database) -> None:
    effects, preferences = SqlEffects(database), SqlPreferences(database)
    here = Channel("discord", "1")
    await preferences.set_channel(here, ChannelPreferences(0.0, "pirate"))
    await effects.save_effects("discord", "1", KEPT)

    await SqlInbox(database, "me", persist=True).reset(here)

    assert await effects.effects("discord", "1") == StoredEffects()
    assert (await preferences.load()).channel(here).persona == "pirate"
    await database.aclose()
