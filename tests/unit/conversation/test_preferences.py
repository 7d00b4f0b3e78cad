"""The cache of preferences while several tasks load and set them."""

import asyncio

from understudy.conversation.inbox import Channel
from understudy.conversation.preferences import (
    MemoryPreferences,
    Preferences,
    PreferenceSnapshot,
)

HERE = Channel("discord", "c1")


class SlowFirstLoad(MemoryPreferences):
    """The first load reads at once, and returns once `gate` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.loads = 0

    async def load(self) -> PreferenceSnapshot:
        self.loads += 1
        is_first, found = self.loads == 1, await super().load()
        if is_first:
            await self.gate.wait()
        return found


async def test_a_load_that_began_earlier_does_not_undo_a_choice() -> None:
    store = SlowFirstLoad()
    preferences = Preferences(store)
    loading = asyncio.create_task(preferences.refresh())
    await asyncio.sleep(0)
    choosing = asyncio.create_task(preferences.choose_candidate(HERE, "fast"))
    await asyncio.wait({choosing}, timeout=0.01)

    store.gate.set()
    await asyncio.gather(loading, choosing)

    assert preferences.now.channel(HERE).candidate == "fast"


async def test_two_choices_at_the_same_time_are_both_kept() -> None:
    preferences = Preferences(MemoryPreferences())

    await asyncio.gather(
        preferences.choose_candidate(HERE, "fast"), preferences.choose_persona(HERE, "ann")
    )

    chosen = preferences.now.channel(HERE)
    assert (chosen.candidate, chosen.persona) == ("fast", "ann")
