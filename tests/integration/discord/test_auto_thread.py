"""Answers in threads of their own, and mentions of people."""

import pytest

from conversation_driver import settings
from discord_double.bot_setup import QUICK_EDITS, BotSetup
from discord_double.double import DiscordDouble, pings_of
from discord_double.payloads import Json
from discord_double.permissions import CREATE_THREADS, overwrite
from understudy.config.settings import Settings
from understudy.storage.in_memory_inbox import MemoryInbox

pytestmark = pytest.mark.slow


def _discord(**changed: object) -> Settings:
    return settings(discord=QUICK_EDITS.model_copy(update={"auto_thread": True, **changed}))


async def _answer_in(double: DiscordDouble, thread: Json, number: int = 1) -> Json:
    """The nth finished answer in a thread."""

    def finished() -> Json | None:
        found = double.sent(thread)
        return found[number - 1] if len(found) >= number else None

    made = await double.until(finished)
    assert made is not None
    return made


async def test_a_mention_is_answered_in_a_thread_that_goes_on_without_mentions(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    async with BotSetup(double, settings=_discord()) as stage:
        stage.models.script = ["Seven", "Eleven"]
        asked = await double.say(channel, ann, double.mention("a number between 1 and 10?"))
        thread = await double.until(lambda: double.state.channels.get(asked["id"]))
        assert thread is not None
        first = await _answer_in(double, thread)
        await double.say(thread, ann, "and a larger one?")
        second = await _answer_in(double, thread, 2)

    assert thread["name"] == "a number between 1 and 10?"
    assert [first["content"], second["content"]] == ["Seven", "Eleven"]
    assert double.sent(channel) == []
    prompt = str(stage.models.prompts[-1].request.messages)
    assert prompt.index("between 1 and 10") < prompt.index("Seven") < prompt.index("larger")


async def test_talk_between_people_in_such_a_thread_is_left_alone(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    bob = double.state.add_user("bob")
    async with BotSetup(double, settings=_discord()) as stage:
        asked = await double.say(channel, ann, double.mention("hi"))
        thread = await double.until(lambda: double.state.channels.get(asked["id"]))
        assert thread is not None
        await _answer_in(double, thread)
        await double.say(thread, bob, f"<@{ann['id']}> shall we go?")
        await double.say(thread, bob, "and you, bot?")
        await _answer_in(double, thread, 2)

        assert len(stage.models.requests) == 2


async def test_a_message_that_comes_twice_makes_one_thread_and_one_answer(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    double.gateway.doubling.append("MESSAGE_CREATE")
    async with BotSetup(double, settings=_discord()) as stage:
        asked = await double.say(channel, ann, double.mention("hi"))
        thread = await double.until(lambda: double.state.channels.get(asked["id"]))
        await _answer_in(double, thread or {})
        again = await double.say(channel, ann, double.mention("again"))
        other = await double.until(lambda: double.state.channels.get(again["id"]))
        await _answer_in(double, other or {})

        assert len(stage.models.requests) == 2


async def test_without_the_permission_the_answer_is_in_the_channel(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    channel["permission_overwrites"] = [overwrite(channel["guild_id"], deny=CREATE_THREADS)]
    async with BotSetup(double, settings=_discord()) as stage:
        asked = await double.say(channel, ann, double.mention("hi"))

        assert (await stage.answer_to(asked))["channel_id"] == channel["id"]


async def test_a_muted_bot_makes_no_thread(double: DiscordDouble, channel: Json, ann: Json) -> None:
    bob = double.state.add_user("bob")
    async with BotSetup(double, settings=_discord()) as stage:
        await stage.router.preferences.opt_out("discord", bob["id"], out=True)
        ignored = await double.say(channel, bob, double.mention("hi"))
        asked = await double.say(channel, ann, double.mention("hi"))
        await double.until(lambda: double.state.channels.get(asked["id"]))

    assert ignored["id"] not in double.state.channels


async def test_an_answer_that_a_crash_interrupted_goes_on_in_its_thread(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    store = MemoryInbox()
    async with BotSetup(double, store, settings=_discord()) as first:
        first.models.gate.clear()
        first.models.script = ["word " * 30]
        asked = await double.say(channel, ann, double.mention("talk"))
        thread = await double.until(lambda: double.state.channels.get(asked["id"]))
        assert thread is not None
        await double.until(lambda: double.sent(thread))
        assert first.running is not None
        first.running.cancel()
        await first.router.aclose()
    double.forget_nonces()
    async with BotSetup(double, store, settings=_discord()):
        await double.until(lambda: [m["content"] for m in double.sent(thread)] == ["echo"])


async def test_only_listed_people_who_take_part_are_notified(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    bob, eve = double.state.add_user("bob"), double.state.add_user("eve")
    allowed = (ann["id"], eve["id"])
    changed = _discord(auto_thread=False, allow_mentions=allowed, stream_edits=False)
    async with BotSetup(double, settings=changed) as stage:
        stage.models.script = [f"@Ann and <@{bob['id']}>, and <@{eve['id']}>"]
        await double.say(channel, bob, "hello")
        answer = await stage.answer_to(await double.say(channel, ann, double.mention("hi")))

    assert answer["content"] == f"<@{ann['id']}> and @Bob, and <@{eve['id']}>"
    (sent,) = double.calls("POST", f"/channels/{channel['id']}/messages")
    assert sent.body["allowed_mentions"]["users"] == [int(ann["id"])]
    assert pings_of(sent.body) == {"users"}
