"""The contract of PreferenceStore, over every implementation."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from conversation_driver import ANN, LOUNGE, message
from postgres_server import KINDS, database_location
from understudy.conversation.inbox import Channel
from understudy.conversation.participation import AuthorStatus
from understudy.conversation.preferences import (
    ChannelPreferences,
    MemoryPreferences,
    Preferences,
    PreferenceSnapshot,
    PreferenceStore,
)
from understudy.storage.database import Database
from understudy.storage.preferences import SqlPreferences

HERE = Channel.of(LOUNGE)


@pytest.fixture(params=["memory", *KINDS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[PreferenceStore]:
    if request.param == "memory":
        yield MemoryPreferences()
        return
    with database_location(request.param, tmp_path) as location:
        database = await Database.open(location)
        yield SqlPreferences(database)
        await database.aclose()


async def test_a_new_store_has_no_preferences(store: PreferenceStore) -> None:
    assert await store.load() == PreferenceSnapshot()


async def test_preferences_stay_until_they_change(store: PreferenceStore) -> None:
    await store.set_channel(HERE, ChannelPreferences(50.0, "pirate"))
    await store.set_channel(HERE, ChannelPreferences(90.0, "pirate"))
    await store.set_opt_out("discord", "1", out=True)
    await store.set_opt_out("discord", "1", out=True)
    await store.set_opt_out("discord", "2", out=True)
    await store.set_opt_out("discord", "2", out=False)

    preferences = await store.load()
    assert preferences.channel(HERE) == ChannelPreferences(90.0, "pirate")
    assert preferences.opted_out == {("discord", "1")}


async def test_changing_one_preference_leaves_the_others(store: PreferenceStore) -> None:
    preferences = Preferences(store)
    await preferences.mute(HERE, 500.0)
    await preferences.choose_persona(HERE, "pirate")
    await preferences.opt_out("discord", ANN.id, out=True)

    assert preferences.now.channel(HERE) == ChannelPreferences(500.0, "pirate")
    assert preferences.now.author_status(message("m1", place=LOUNGE)) == AuthorStatus(
        500.0, opted_out=True
    )
    await preferences.mute(HERE, 0)
    await preferences.opt_out("discord", ANN.id, out=False)
    assert preferences.now.author_status(message("m1", place=LOUNGE)) == AuthorStatus()


async def test_a_choice_of_another_process_is_read_for_one_channel(store: PreferenceStore) -> None:
    one, other = Preferences(store), Preferences(store)
    await one.refresh()
    await other.choose_persona(HERE, "cat")
    await other.choose_candidate(HERE, "home")

    before = one.now.channel(HERE)
    await one.refresh_channel(HERE)

    assert before == ChannelPreferences()
    assert one.now.channel(HERE) == ChannelPreferences(persona="cat", candidate="home")
