"""When connections end at a bad moment, and when Discord or the database refuses for a while."""

import asyncio
import time
from dataclasses import replace

import pytest

from discord_double import payloads
from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from discord_double.rest import Fault
from discord_double.stage import SWIFT, Stage
from understudy.conversation.inbox import Watermark
from understudy.conversation.memory_inbox import MemoryInbox
from understudy.errors import StorageError

pytestmark = pytest.mark.slow


async def test_a_bot_that_is_connecting_anew_stops_when_it_is_told(
    double: DiscordDouble, channel: Json
) -> None:
    async with Stage(double) as stage:
        double.gateway.holding = True
        before = double.gateway.connections
        await double.gateway.drop()
        await double.until(lambda: double.gateway.connections > before)
        assert stage.running is not None
        stage.running.cancel()

        done, _ = await asyncio.wait({stage.running}, timeout=5)
        assert done


async def test_a_bot_that_was_stopped_while_it_started_leaves_no_task(
    double: DiscordDouble, channel: Json
) -> None:
    before = asyncio.all_tasks()
    async with Stage(double, pace=replace(SWIFT, guilds_s=0.5)) as stage:
        client = await stage.bot.connected()
        await double.until(lambda: client.guilds)
    while left := asyncio.all_tasks() - before:
        # discord.py goes on listing servers for a while, and then says that it is ready.
        _, running = await asyncio.wait(left, timeout=2)
        assert not running


async def test_what_was_said_after_a_session_that_ended_at_once_is_caught_up(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    async with Stage(double, pace=replace(SWIFT, identify_s=0.4)) as stage:
        await stage.answer_to(await double.say(channel, ann, double.mention("before")))
        for _ in range(2):
            # The second of these sessions ends before its servers are listed.
            await double.gateway.invalidate(resumable=False)
            await double.ready()
        await double.gateway.invalidate(resumable=False)
        asked = double.world.write(channel["id"], ann, double.mention("in the gap"))

        await stage.answer_to(asked)


async def test_a_channel_that_cannot_be_read_just_now_is_caught_up_a_little_later(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    async with Stage(double) as stage:
        await stage.answer_to(await double.say(channel, ann, double.mention("before")))
        double.spoil(Fault("GET", r".*/messages", 503, times=2))
        await double.gateway.drop()
        double.gateway.sessions.clear()
        asked = double.world.write(channel["id"], ann, double.mention("in the gap"))

        await stage.answer_to(asked)


async def test_what_came_after_a_gap_does_not_hide_it_when_the_bot_stops_in_mid_catch_up(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    store, bob = MemoryInbox(), double.world.add_user("bob")
    before, gap = (payloads.snowflake(time.time() - age_s) for age_s in (600, 300))
    elsewhere = double.world.add_channel(double.world.guilds[channel["guild_id"]], "quiet")
    hi = double.mention("hi")
    async with Stage(double, store) as stage:
        await stage.answer_to(await double.say(channel, ann, hi, message_id=before))
    missed = double.world.write(channel["id"], ann, double.mention("?"), message_id=gap)
    gate = asyncio.Event()
    reading = double.spoil(Fault("GET", r".*/messages", 0, gate=gate))
    async with Stage(double, store) as stage:
        await double.until(lambda: not reading.times)
        await double.say(channel, bob, hi)
        # Events come in order: once this is answered, the one before waits for its gap.
        await stage.answer_to(await double.say(elsewhere, ann, hi))
    gate.set()
    async with Stage(double, store) as stage:
        await stage.answer_to(missed)


class BusyInbox(MemoryInbox):
    """Refuses the next few questions about how far it has read."""

    refusals = 0

    async def watermarks(self, platform: str, since: float) -> tuple[Watermark, ...]:
        if self.refusals:
            self.refusals -= 1
            raise StorageError("the database is locked")
        return await super().watermarks(platform, since)


async def test_a_gap_is_caught_up_though_the_database_was_busy_as_the_session_began(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    store = BusyInbox()
    async with Stage(double, store) as stage:
        await stage.answer_to(await double.say(channel, ann, double.mention("before")))
        store.refusals = 2
        await double.gateway.drop()
        double.gateway.sessions.clear()
        asked = double.world.write(channel["id"], ann, double.mention("in the gap"))

        await stage.answer_to(asked)
