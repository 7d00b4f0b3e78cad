"""New messages of a channel wait until every gap of it is filled."""

import asyncio

import discord

from understudy.conversation.inbox import Watermark
from understudy.conversation.messages import Place
from understudy.platforms.discord.backfill import Gap, GapTracker

CHANNEL, SHARD = 5, 0
MARKS = [Watermark(Place("discord", str(CHANNEL)), "7")]


def gap(after: int) -> Gap:
    client = discord.Client(intents=discord.Intents.none())
    return Gap(client.get_partial_messageable(CHANNEL), after)


async def test_a_message_waits_for_the_catch_up_of_an_earlier_session_too() -> None:
    gaps = GapTracker()
    earlier, later = gap(7), gap(7)
    for found in (earlier, later):
        gaps.session_begins(SHARD, MARKS)
        gaps.found(SHARD, [found])
    waiting = asyncio.create_task(gaps.wait(SHARD, CHANNEL))

    gaps.closed(later)
    gaps.closed(later)
    await asyncio.sleep(0)
    assert not waiting.done()

    gaps.closed(earlier)
    await waiting


async def test_a_message_waits_for_the_survey_of_its_session() -> None:
    gaps = GapTracker()
    gaps.session_begins(SHARD, MARKS)
    waiting = asyncio.create_task(gaps.wait(SHARD, CHANNEL))
    await asyncio.sleep(0)
    assert not waiting.done()

    gaps.found(SHARD, [])

    await waiting
