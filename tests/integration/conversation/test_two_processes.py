"""Two bots on one database: each message is answered by one of them."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

from conversation_driver import LOUNGE, ConversationDriver, message, settings
from understudy.conversation.messages import Author
from understudy.storage.stores import open_storage

MESSAGES = 60
CHANNELS = 6


async def test_what_both_hear_is_answered_once(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    conf = settings(participation={"user_per_minute": 10_000, "channel_per_minute": 10_000})
    async with open_storage(path, persist=True) as one, open_storage(path, persist=True) as two:
        first, second = (
            ConversationDriver(one.inbox, settings=conf),
            ConversationDriver(two.inbox, settings=conf),
        )
        second.platform.changed = first.platform.changed
        async with first, second:
            for number in range(MESSAGES):
                inbound = message(
                    f"m{number}",
                    author=Author(str(number % 3), "Ann"),
                    place=replace(LOUNGE, channel_id=f"c{number % CHANNELS}"),
                )
                heard = await asyncio.gather(
                    *(driver.router.receive(inbound) for driver in (first, second))
                )
                assert sum(decision is not None for decision in heard) == 1
            await first.platform.until(lambda: sum(answered(first, second).values()) >= MESSAGES)

    assert answered(first, second) == Counter({f"m{number}": 1 for number in range(MESSAGES)})


def answered(*drivers: ConversationDriver) -> Counter[str]:
    return Counter(
        message_id
        for driver in drivers
        for task, _ in driver.platform.said
        for message_id in task.message_ids
    )
