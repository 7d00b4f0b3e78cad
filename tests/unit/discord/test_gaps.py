import asyncio

from discord_double.payloads import snowflake
from talk import LOUNGE
from understudy.conversation.inbox import Watermark
from understudy.platforms.discord.catch_up import Gaps


async def test_whoever_waits_for_a_gap_goes_on_when_nothing_more_is_caught_up() -> None:
    gaps = Gaps()
    gaps.session_begins(0, [Watermark(LOUNGE, snowflake())])
    waiting = asyncio.create_task(gaps.wait(0, 7))
    await asyncio.sleep(0)
    assert not waiting.done()
    gaps.give_up()

    await asyncio.wait_for(waiting, 1)
