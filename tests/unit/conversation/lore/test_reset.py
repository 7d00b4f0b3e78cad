from understudy.conversation.inbox import Channel
from understudy.conversation.lore.effects import Effect, StoredEffects
from understudy.storage.in_memory_inbox import MemoryInbox
from understudy.storage.in_memory_tables import MemoryTables


async def test_a_reset_ends_what_lore_set_going_in_that_channel_only() -> None:
    tables = MemoryTables()
    inbox = MemoryInbox(tables, "me")
    going = StoredEffects({"book/1/abc": Effect(1, 5, 0)}, 1, 1)
    await tables.effects.save_effects("discord", "7", going)
    await tables.effects.save_effects("discord", "8", going)

    await inbox.reset(Channel("discord", "7"))

    assert await tables.effects.effects("discord", "7") == StoredEffects()
    assert await tables.effects.effects("discord", "8") == going
