"""The whole bot over real sockets: what people do on Discord, and what they see."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from conversation_driver import QUICK, offline_record, settings
from discord_double import payloads
from discord_double.bot_setup import QUICK_EDITS, BotSetup
from discord_double.double import DiscordDouble, buttons_of, pings_of
from discord_double.gateway import GUILD_MESSAGES, MESSAGE_CONTENT
from discord_double.payloads import Json
from discord_double.rest import Fault
from understudy.config.settings import Participation, Settings
from understudy.conversation.inbox import Channel
from understudy.errors import ConfigError
from understudy.platforms.discord.presence import AWAY
from understudy.routing.records import OfflineReason
from understudy.storage.stores import Stores, open_storage
from waiting import LIMIT_S

pytestmark = pytest.mark.slow


@pytest.fixture
async def stage(double: DiscordDouble, channel: Json) -> AsyncIterator[BotSetup]:
    async with BotSetup(double) as made:
        yield made


def _discord(**changed: object) -> Settings:
    return settings(discord=QUICK_EDITS.model_copy(update=changed))


async def test_a_mention_is_answered_with_a_reply(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    stage.models.script = ["Good evening"]
    asked = await double.say(channel, ann, double.mention("hello"))

    assert (await stage.answer_to(asked))["content"] == "Good evening"


async def test_a_reply_to_the_bot_is_answered_without_a_mention(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    mine = double.state.write(channel["id"], double.state.me, "earlier words")
    reference = {"message_id": mine["id"], "channel_id": channel["id"]}
    asked = await double.say(channel, ann, "go on", reply_to=reference)
    await stage.answer_to(asked)

    assert "earlier words" in _last_prompt(stage)


async def test_a_reply_whose_parent_discord_left_out_is_fetched(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    mine = double.state.write(channel["id"], double.state.me, "earlier words")
    reference = {"type": 0, "message_id": mine["id"], "channel_id": channel["id"]}
    asked = await double.say(channel, ann, "go on", type=19, message_reference=reference)
    await stage.answer_to(asked)

    assert "earlier words" in _last_prompt(stage)


async def test_a_direct_message_is_answered(
    double: DiscordDouble, stage: BotSetup, ann: Json
) -> None:
    asked = await double.say(double.state.dm_with(ann), ann, "psst")

    assert (await stage.answer_to(asked))["content"] == "echo"


async def test_direct_messages_can_be_for_members_alone(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    stranger = double.state.add_user("stranger")
    double.state.roles[ann["id"]] = []
    async with BotSetup(double, settings=_discord(dms="members")) as stage:
        await double.ready()
        await stage.answer_to(await double.say(channel, ann, double.mention("hello")))
        ignored = await double.say(double.state.dm_with(stranger), stranger, "psst")
        await stage.answer_to(await double.say(double.state.dm_with(ann), ann, "psst"))

        assert double.answers_to(ignored) == []


async def test_a_name_is_answered_in_channels_where_the_bot_takes_part(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    part = Participation(channels=(channel["id"],), names=("Stu",))
    conf = settings(discord=QUICK_EDITS, participation=part)
    async with BotSetup(double, settings=conf) as stage:
        asked = await double.say(channel, ann, "hey Stu!")

        await stage.answer_to(asked)


async def test_a_thread_a_forum_post_and_an_unknown_channel_are_answered_in_place(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    guild = double.state.guilds[channel["guild_id"]]
    forum = double.state.add_channel(guild, "forum", kind=payloads.FORUM, known=False)
    for place in (
        double.state.add_thread(channel, "aside"),
        double.state.add_thread(forum, "post"),
        double.state.add_channel(guild, "hidden", known=False),
    ):
        asked = await double.say(place, ann, double.mention("hi"))

        assert (await stage.answer_to(asked))["channel_id"] == place["id"]


async def test_talk_among_people_and_of_bots_is_left_alone(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    robot = double.state.add_user("robot", bot=True)
    await double.say(channel, ann, "just talking")
    await double.say(channel, robot, double.mention("beep"))
    asked = await double.say(channel, ann, double.mention("and you?"))
    await stage.answer_to(asked)

    assert len(double.sent()) == 1


async def test_a_burst_of_one_author_gets_one_answer_to_its_last_message(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    patient = QUICK.model_copy(update={"quiet_seconds": 1.0})
    async with BotSetup(
        double, settings=settings(discord=QUICK_EDITS, conversation=patient)
    ) as stage:
        await double.say(channel, ann, double.mention("one"))
        last = await double.say(channel, ann, double.mention("two"))
        await stage.answer_to(last)

        assert len(double.sent()) == 1
        assert "one" in _last_prompt(stage)


async def test_an_answer_streams_and_can_be_stopped(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    stage.models.script = ["word " * 30]
    stage.models.gate.clear()
    asked = await double.say(channel, ann, double.mention("talk"))
    (running,) = await double.until(lambda: double.answers_to(asked))
    await double.press(running, ann, "Stop")
    answer = await stage.answer_to(asked)

    assert answer["content"] == "word"
    assert [b["label"] for b in buttons_of(answer)] == ["Regenerate", "Delete"]


async def test_regenerate_replaces_the_answer_and_delete_removes_it(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    stage.models.script = ["first", "second"]
    asked = await double.say(channel, ann, double.mention("hello"))
    await double.press(await stage.answer_to(asked), ann, "Regenerate")
    await double.until(lambda: [m["content"] for m in double.sent()] == ["second"])
    await double.press(await stage.answer_to(asked), ann, "Delete")

    await double.until(lambda: double.sent() == [])


async def test_delete_takes_the_reply_that_it_stands_below_and_no_other(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    stage.models.script = [f"{'x' * 1900} {'y' * 1900}"]
    stage.models.gate.clear()
    asked = await double.say(channel, ann, double.mention("tell me all"))
    await double.until(lambda: double.answers_to(asked))
    other = double.state.write(channel["id"], double.state.me, "the end of another reply")
    stage.models.gate.set()
    (last,) = await double.until(lambda: [m for m in double.sent() if len(buttons_of(m)) == 2])
    await _stored(stage, channel)
    await double.press(last, ann, "Delete")

    await double.until(lambda: len(double.sent()) == 1)
    assert double.sent() == [other]


async def test_a_deleted_answer_is_in_no_later_prompt(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    stage.models.script = ["regretted", "fine"]
    answer = await stage.answer_to(await double.say(channel, ann, double.mention("hello")))
    await _stored(stage, channel)
    await double.press(answer, ann, "Delete")
    await double.until(lambda: double.sent() == [])
    await stage.answer_to(await double.say(channel, ann, double.mention("again")))

    assert "regretted" not in str(stage.models.prompts[-1].request)


async def test_only_the_author_or_a_moderator_may_press(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    bob = double.state.add_user("bob")
    asked = await double.say(channel, ann, double.mention("hello"))
    answer = await stage.answer_to(asked)
    refused = await double.press(answer, bob, "Delete")
    await double.until(lambda: refused.answers)

    assert "moderator" in refused.text
    assert len(double.sent()) == 1
    await double.press(answer, bob, "Delete", permissions=str(1 << 13))
    await double.until(lambda: double.sent() == [])


async def test_deleting_the_trigger_takes_the_running_answer_back(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    stage.models.script = ["word " * 30]
    stage.models.gate.clear()
    asked = await double.say(channel, ann, double.mention("talk"))
    await double.until(lambda: double.answers_to(asked))
    await double.delete(asked)

    await double.until(lambda: double.sent() == [])


async def test_editing_the_trigger_before_anything_is_shown_restarts_the_answer(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    async with BotSetup(double, settings=_discord(first_edit_seconds=30.0)) as stage:
        stage.models.gate.clear()
        asked = await double.say(channel, ann, double.mention("whta is it"))
        await double.until(lambda: stage.models.requests)
        await double.edit(asked, double.mention("what is it"))
        await double.until(lambda: len(stage.models.requests) == 2)
        stage.models.gate.set()
        await stage.answer_to(asked)

        assert "what is it" in _last_prompt(stage)
        assert len(double.sent()) == 1


async def test_a_link_preview_is_no_edit(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    stage.models.gate.clear()
    asked = await double.say(channel, ann, double.mention("https://example.org"))
    await double.until(lambda: stage.models.requests)
    asked["embeds"] = [{"title": "Example"}]
    await double.gateway.dispatch("MESSAGE_UPDATE", asked)
    stage.models.gate.set()
    await stage.answer_to(asked)

    assert len(stage.models.requests) == 1


async def test_when_all_fail_the_offline_message_comes_and_the_presence_shows_it(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    stage.models.script = [offline_record(OfflineReason.ALL_DOWN)]
    asked = await double.say(channel, ann, double.mention("anyone?"))
    (notice,) = await double.until(lambda: double.answers_to(asked))
    await double.until(double.presences)

    assert "can't reach my thoughts" in notice["content"]
    assert double.presences()[-1]["status"] == "idle"
    assert double.presences()[-1]["activities"][0]["state"] == AWAY
    await stage.answer_to(await double.say(channel, ann, double.mention("and now?")))
    await double.until(lambda: double.presences()[-1]["status"] == "online")


async def test_no_reply_can_ping_everyone(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    stage.models.script = ["@everyone come here " * 10]
    await stage.answer_to(await double.say(channel, ann, double.mention("shout")))

    writes = [*double.calls("POST", "/messages"), *double.calls("PATCH")]
    assert all(pings_of(call.body) == set() for call in writes)


async def test_a_resume_that_replays_seen_messages_answers_each_once(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    seen = await double.say(channel, ann, double.mention("seen"))
    await stage.answer_to(seen)
    double.gateway.replays = 5
    await double.gateway.drop()
    missed = await double.say(channel, ann, double.mention("missed"))
    await stage.answer_to(missed)

    assert len(double.answers_to(seen)) == len(double.answers_to(missed)) == 1


async def test_a_message_delivered_twice_is_answered_once(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    double.gateway.doubling.append("MESSAGE_CREATE")
    asked = await double.say(channel, ann, double.mention("hello"))
    await stage.answer_to(asked)
    await stage.answer_to(await double.say(channel, ann, double.mention("again")))

    assert len(double.answers_to(asked)) == 1


async def test_after_an_invalid_session_mentions_and_dms_of_the_gap_are_caught_up(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    dm = double.state.dm_with(ann)
    for place in (channel, dm):
        await stage.answer_to(await double.say(place, ann, double.mention("before")))
    answered = len(double.sent())
    await double.gateway.drop()
    double.gateway.sessions.clear()
    asked = double.state.write(channel["id"], ann, double.mention("in the gap"))
    double.state.write(channel["id"], ann, "just talk")
    whispered = double.state.write(dm["id"], ann, "in the gap too")
    await stage.answer_to(asked)
    await stage.answer_to(whispered)

    assert len(double.sent()) == answered + 2


async def test_the_first_direct_message_of_a_person_is_caught_up(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    bob = double.state.add_user("bob")
    await stage.answer_to(await double.say(channel, ann, double.mention("before")))
    await double.gateway.drop()
    double.gateway.sessions.clear()
    whispered = double.state.write(double.state.dm_with(ann)["id"], ann, "a first whisper")
    strange = double.state.write(double.state.dm_with(bob)["id"], bob, "who never spoke before")
    await stage.answer_to(whispered)

    assert double.answers_to(strange) == []


async def test_a_mention_of_the_gap_is_found_behind_hundreds_of_later_messages(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    await stage.answer_to(await double.say(channel, ann, double.mention("before")))
    await double.gateway.drop()
    double.gateway.sessions.clear()
    asked = double.state.write(channel["id"], ann, double.mention("in the gap"))
    for number in range(250):
        double.state.write(channel["id"], ann, f"talk {number}")

    await stage.answer_to(asked)


async def test_messages_of_the_gap_older_than_the_limit_are_left(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    ids = [payloads.snowflake(time.time() - age_s) for age_s in (120, 60)]
    async with BotSetup(double, settings=_discord(catch_up_minutes=0.5)) as stage:
        before = await double.say(channel, ann, double.mention("before"), message_id=ids[0])
        await stage.answer_to(before)
        await double.gateway.drop()
        double.gateway.sessions.clear()
        old = double.state.write(channel["id"], ann, double.mention("gap"), message_id=ids[1])
        young = double.state.write(channel["id"], ann, double.mention("just now"))
        await stage.answer_to(young)

        assert double.answers_to(old) == []


async def test_a_first_start_catches_nothing_up(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    old = double.state.write(channel["id"], ann, double.mention("long ago"))
    async with BotSetup(double) as stage:
        await stage.answer_to(await double.say(channel, ann, double.mention("hello")))

        assert double.answers_to(old) == []


@pytest.mark.parametrize("status", [502, 503])
async def test_an_error_after_the_effect_does_not_double_the_answer(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json, status: int
) -> None:
    double.spoil(Fault("POST", ".*/messages", status, after_effect=True))
    asked = await double.say(channel, ann, double.mention("hello"))
    await stage.answer_to(asked)

    assert len(double.answers_to(asked)) == 1


async def test_two_bots_on_one_database_answer_each_message_once(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    def opened() -> AbstractAsyncContextManager[Stores]:
        return open_storage(tmp_path / "bot.db", persist=True)

    async with (
        opened() as one,
        opened() as other,
        BotSetup(double, one.inbox) as first,
        BotSetup(double, other.inbox) as second,
    ):
        people = [ann, *(double.state.add_user(f"person-{n}") for n in range(5))]
        asked = [await double.say(channel, one_of, double.mention("hi")) for one_of in people]
        for number, message in enumerate(asked):
            await (first, second)[number % 2].answer_to(message)

        assert [len(double.answers_to(m)) for m in asked] == [1] * len(asked)


async def test_servers_on_several_shards_and_direct_messages_are_answered(
    double: DiscordDouble, ann: Json
) -> None:
    double.gateway.shards = 2
    channels = [double.state.add_channel(double.state.add_guild(), "general") for _ in range(3)]
    async with BotSetup(double) as stage:
        await double.until(lambda: len(double.gateway.sessions) == 2)
        for place in (*channels, double.state.dm_with(ann)):
            await stage.answer_to(await double.say(place, ann, double.mention("hello")))

        assert {session.shard for session in double.gateway.sessions.values()} == {(0, 2), (1, 2)}


async def test_a_fixed_number_of_shards_is_started(double: DiscordDouble, ann: Json) -> None:
    channels = [double.state.add_channel(double.state.add_guild(), "general") for _ in range(3)]
    async with BotSetup(double, settings=_discord(shards=3)) as stage:
        await double.until(lambda: len(double.gateway.sessions) == 3)
        for place in channels:
            await stage.answer_to(await double.say(place, ann, double.mention("hello")))

        assert {session.shard[1] for session in double.gateway.sessions.values()} == {3}


async def test_without_sessions_left_for_today_none_is_begun_until_they_are_reset(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    double.gateway.sessions_left = 0
    with capture_logs() as logs:
        async with BotSetup(double) as stage:
            await stage.answer_to(await double.say(channel, ann, double.mention("hello")))

    waits = [log["again_in_s"] for log in logs if log["event"] == "discord.sessions_used_up"]
    assert waits == [0.3]


async def test_an_event_that_cannot_be_read_does_not_end_the_bot(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    bad = payloads.poll("Tea?", ["yes"]) | {"expiry": None}
    sessions = len(double.gateway.identifies)
    await double.say(channel, ann, "poll", poll=bad)
    await double.until(lambda: len(double.gateway.identifies) > sessions)
    await double.ready()

    await stage.answer_to(await double.say(channel, ann, double.mention("still there?")))


async def test_a_missing_content_intent_ends_with_the_portal_steps(double: DiscordDouble) -> None:
    double.gateway.content_intent_granted = False
    stage = BotSetup(double)

    with pytest.raises(
        ConfigError, match=r"Message Content Intent.*discord.message_content: false"
    ):
        await stage.bot.run()


async def test_a_bad_token_ends_with_what_to_do(double: DiscordDouble) -> None:
    double.gateway.token = "another"

    with pytest.raises(ConfigError, match=r"refused the bot token.*DISCORD_TOKEN"):
        await BotSetup(double).bot.run()


async def test_without_the_content_intent_mentions_are_answered(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    double.gateway.content_intent_granted = False
    async with BotSetup(double, settings=_discord(message_content=False)) as stage:
        asked = await double.say(channel, ann, double.mention("hello"))
        await stage.answer_to(asked)

        intents = double.gateway.identifies[-1]["intents"]
        assert intents & GUILD_MESSAGES
        assert not intents & MESSAGE_CONTENT


async def test_a_channel_without_permission_to_write_is_not_listened_to(
    double: DiscordDouble, ann: Json
) -> None:
    guild = double.state.add_guild()
    guild["roles"][0]["permissions"] = str(1 << 10)
    closed = double.state.add_channel(guild, "closed")
    open_ = double.state.add_channel(double.state.add_guild(), "open")
    async with BotSetup(double) as stage:
        await double.say(closed, ann, double.mention("hello"))
        await stage.answer_to(await double.say(open_, ann, double.mention("hello")))

        assert len(stage.models.requests) == 1


def _last_prompt(stage: BotSetup) -> str:
    messages = stage.models.prompts[-1].request.messages
    return "\n".join(getattr(part, "text", "") for m in messages for part in m.parts)


async def _stored(stage: BotSetup, channel: Json) -> None:
    """Wait until the reply that is shown there is stored as well."""
    store, here = stage.router.store, Channel("discord", channel["id"])
    async with asyncio.timeout(LIMIT_S):
        while await store.last_reply(here) is None:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def test_stop_reaches_the_process_that_writes_the_reply(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    path = tmp_path / "bot.db"
    async with (
        open_storage(path, persist=True) as one,
        open_storage(path, persist=True) as other,
        BotSetup(double, one.inbox) as first,
        BotSetup(double, other.inbox) as second,
    ):
        for stage in (first, second):
            stage.models.script = ["word " * 30]
            stage.models.gate.clear()
        asked = await double.say(channel, ann, double.mention("talk"))
        (running,) = await double.until(lambda: double.answers_to(asked))

        exchange = await double.press(running, ann, "Stop")
        answer = await first.answer_to(asked)

    assert answer["content"] == "word"
    assert exchange.answers == []


async def test_emoji_of_the_server_are_shown(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    double.state.guilds[channel["guild_id"]]["emojis"] = [
        {"id": "1212", "name": "party", "roles": [], "managed": False, "available": True}
    ]
    async with BotSetup(double) as stage:
        stage.models.script = ["Hooray :party:"]
        answer = await stage.answer_to(await double.say(channel, ann, double.mention("party?")))

    assert answer["content"] == "Hooray <:party:1212>"
