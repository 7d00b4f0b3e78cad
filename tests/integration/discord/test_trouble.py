"""When connections end at a bad moment, and when Discord or the database refuses for a while."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import discord
import pytest
from structlog.testing import capture_logs

from busy_inbox import BusyInbox
from conversation_driver import settings
from discord_double import payloads
from discord_double.bot_setup import QUICK_EDITS, SWIFT, BotSetup
from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from discord_double.rest import Fault
from understudy.conversation.inbox import Channel, InboxStore
from understudy.platforms.discord.inbound import FoundFile
from understudy.storage.in_memory_inbox import MemoryInbox
from waiting import LIMIT_S

pytestmark = pytest.mark.slow


async def test_a_reconnecting_bot_stops_on_request(double: DiscordDouble, channel: Json) -> None:
    async with BotSetup(double) as stage:
        double.gateway.holding = True
        before = double.gateway.connections
        await double.gateway.drop()
        await double.until(lambda: double.gateway.connections > before)
        assert stage.running is not None
        stage.running.cancel()

        done, _ = await asyncio.wait({stage.running}, timeout=LIMIT_S)
        assert done


async def no_task_is_left(before: set[asyncio.Task[object]]) -> None:
    while left := asyncio.all_tasks() - before:
        # discord.py goes on listing servers for a while, and then says that it is ready.
        _, running = await asyncio.wait(left, timeout=LIMIT_S)
        assert not running


async def test_a_bot_that_was_stopped_while_it_started_leaves_no_task(
    double: DiscordDouble, channel: Json
) -> None:
    before = asyncio.all_tasks()
    async with BotSetup(double, pace=replace(SWIFT, guilds_s=0.5)) as stage:
        client = await stage.bot.connected()
        await double.until(lambda: client.guilds)

    await no_task_is_left(before)


async def test_what_was_said_after_a_session_that_ended_at_once_is_caught_up(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    async with BotSetup(double, pace=replace(SWIFT, identify_s=0.4)) as stage:
        await stage.answer_to(await double.say(channel, ann, double.mention("before")))
        for _ in range(2):
            # The second of these sessions ends before its servers are listed.
            await double.gateway.invalidate(resumable=False)
            await double.ready()
        await double.gateway.invalidate(resumable=False)
        asked = double.state.write(channel["id"], ann, double.mention("in the gap"))

        await stage.answer_to(asked)


async def test_a_channel_that_cannot_be_read_just_now_is_caught_up_a_little_later(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    async with BotSetup(double) as stage:
        await stage.answer_to(await double.say(channel, ann, double.mention("before")))
        double.spoil(Fault("GET", r".*/messages", 503, times=2))
        await double.gateway.drop()
        double.gateway.sessions.clear()
        asked = double.state.write(channel["id"], ann, double.mention("in the gap"))

        await stage.answer_to(asked)


async def test_what_came_after_a_gap_does_not_hide_it_when_the_bot_stops_in_mid_catch_up(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    store, bob = MemoryInbox(), double.state.add_user("bob")
    before, gap = (payloads.snowflake(time.time() - age_s) for age_s in (600, 300))
    elsewhere = double.state.add_channel(double.state.guilds[channel["guild_id"]], "quiet")
    hi = double.mention("hi")
    async with BotSetup(double, store) as stage:
        await stage.answer_to(await double.say(channel, ann, hi, message_id=before))
    missed = double.state.write(channel["id"], ann, double.mention("?"), message_id=gap)
    gate = asyncio.Event()
    reading = double.spoil(Fault("GET", r".*/messages", 0, gate=gate))
    async with BotSetup(double, store) as stage:
        await double.until(lambda: not reading.times)
        await double.say(channel, bob, hi)
        # Events come in order: once this is answered, the one before waits for its gap.
        await stage.answer_to(await double.say(elsewhere, ann, hi))
    gate.set()
    async with BotSetup(double, store) as stage:
        await stage.answer_to(missed)


async def test_a_gap_is_caught_up_though_the_database_was_busy_as_the_session_began(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    store = BusyInbox()
    async with BotSetup(double, store) as stage:
        await stage.answer_to(await double.say(channel, ann, double.mention("before")))
        store.refusals["watermarks"] = 2
        await double.gateway.drop()
        double.gateway.sessions.clear()
        asked = double.state.write(channel["id"], ann, double.mention("in the gap"))

        await stage.answer_to(asked)


async def said(store: InboxStore, channel: Json) -> str:
    """What people have said there, as the bot remembers it."""
    lines = await store.transcript(Channel("discord", channel["id"]), 100)
    return "\n".join(line.text for line in lines if line.role == "user")


async def test_a_reply_is_read_without_its_parent_where_the_connection_is_lost(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    parent = double.state.write(channel["id"], double.state.me, "earlier words")
    reference = {"type": 0, "message_id": parent["id"], "channel_id": channel["id"]}
    async with BotSetup(double) as stage:
        double.rest.faults.append(Fault("GET", ".*/messages/.*", 502, cut=True, times=9))
        text = double.mention("go on")
        asked = await double.say(channel, ann, text, type=19, message_reference=reference)

        assert (await stage.answer_to(asked))["content"] == "echo"


async def test_a_members_direct_message_is_answered_though_the_connection_is_lost_once(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    double.state.roles[ann["id"]] = []
    conf = settings(discord=QUICK_EDITS.model_copy(update={"dms": "members"}))
    async with BotSetup(double, settings=conf) as stage:
        await double.ready()
        double.rest.faults.append(Fault("GET", ".*/members/.*", 502, cut=True, times=2))
        asked = await double.say(double.state.dm_with(ann), ann, "psst")

        assert (await stage.answer_to(asked))["content"] == "echo"


async def test_a_question_waits_for_the_picture_that_was_shown_before_it(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    store, bob, fetched = MemoryInbox(), double.state.add_user("bob"), asyncio.Event()

    async def fetch_slowly(found: Sequence[FoundFile], text: str) -> None:
        if found:
            await fetched.wait()

    async with BotSetup(double, store, fetch_images=fetch_slowly) as stage:
        sea = double.state.keep_file(channel["id"], "sea.png", b"", "image/png")
        await double.say(channel, ann, double.mention("look"), attachments=[sea])
        asked = await double.say(channel, ann, double.mention("where is it"))
        # Events come in order: once this is answered, the ones before have been heard.
        await stage.answer_to(await double.say(channel, bob, double.mention("hi")))
        fetched.set()
        await stage.answer_to(asked)

        heard = await said(store, channel)
        assert heard.index("look") < heard.index("where is it")


async def test_an_edit_that_overtakes_its_message_is_made_after_it(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    store = BusyInbox(add=1)
    async with BotSetup(double, store) as stage:
        asked = await double.say(channel, ann, double.mention("whta is it"))
        await double.edit(asked, double.mention("what is it"))
        await stage.answer_to(asked)

        assert "what is it" in await said(store, channel)


async def test_an_edit_and_a_deletion_are_kept_until_the_database_takes_them(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    store = BusyInbox()
    async with BotSetup(double, store) as stage:
        asked = await double.say(channel, ann, double.mention("the old word"))
        await stage.answer_to(asked)
        store.refusals.update(edit=1, delete=1)
        await double.edit(asked, double.mention("the new word"))
        await double.until(lambda: store.taken["edit"])
        assert "the new word" in await said(store, channel)
        await double.delete(asked)
        await double.until(lambda: store.taken["delete"])

        assert "word" not in await said(store, channel)


async def test_a_message_that_the_database_refuses_to_the_end_leaves_no_task(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    store = BusyInbox(add=1000)
    before = asyncio.all_tasks()
    async with BotSetup(double, store):
        await double.say(channel, ann, double.mention("anyone?"))
        await double.until(lambda: store.refusals["add"] < 1000)

    await no_task_is_left(before)


async def test_a_good_session_makes_the_pauses_short_again(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    async with BotSetup(double) as stage:
        client = await stage.bot.connected()
        assert isinstance(client, discord.AutoShardedClient)
        await double.until(lambda: client.shards)
        delay = client.shards[0]._parent._backoff
        for _ in range(8):
            delay.delay()

        await double.gateway.drop()
        double.gateway.sessions.clear()
        await double.until(lambda: client.shards[0]._parent._backoff is not delay)

        assert client.shards[0]._parent._backoff.delay() <= 2


async def test_an_unreachable_discord_is_one_plain_line_for_each_try(
    double: DiscordDouble,
) -> None:
    # Login is the first request; discord.py gives up on these answers at once.
    double.rest.faults.append(Fault("GET", ".*/users/@me", 404, times=2))
    with capture_logs() as events:
        async with BotSetup(double):
            pass

    told = [event for event in events if event["event"].startswith("discord.")]
    assert [event["event"] for event in told[:2]] == ["discord.unreachable"] * 2
    assert told[0]["log_level"] == "warning"
    assert "cannot be reached" in told[0]["reason"]
    assert "exc_info" not in told[0]
