"""What the bot sees besides the messages it was there for: threads, reply chains, links."""

from collections.abc import AsyncIterator

import discord
import pytest

from conversation_driver import settings
from discord_double import payloads
from discord_double.bot_setup import QUICK_EDITS, BotSetup
from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from discord_double.permissions import READ_HISTORY, VIEW, overwrite
from understudy.config.settings import Settings
from understudy.platforms.discord.access import can_read
from understudy.platforms.discord.message_cache import MessageCache

pytestmark = pytest.mark.slow


@pytest.fixture
async def stage(double: DiscordDouble, channel: Json) -> AsyncIterator[BotSetup]:
    async with BotSetup(double) as made:
        yield made


def _reading_back(number: int) -> Settings:
    made = settings(discord=QUICK_EDITS)
    changed = made.conversation.model_copy(update={"read_back": number})
    return made.model_copy(update={"conversation": changed})


def _prompt(stage: BotSetup) -> str:
    messages = stage.models.prompts[-1].request.messages
    return "\n".join(getattr(part, "text", "") for m in messages for part in m.parts)


def _ref(message: Json) -> Json:
    return {"message_id": message["id"], "channel_id": message["channel_id"]}


def _link(message: Json) -> str:
    return f"https://discord.com/channels/{message['guild_id']}/{message['channel_id']}/{message['id']}"


async def _ask(double: DiscordDouble, stage: BotSetup, channel: Json, who: Json, text: str) -> str:
    """Mention the bot and wait for its answer; the prompt."""
    await stage.answer_to(await double.say(channel, who, double.mention(text)))
    return _prompt(stage)


async def test_the_message_that_started_a_thread_is_seen_in_it(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    bob = double.state.add_user("bob")
    start = double.state.write(channel["id"], bob, "My boat leaks\nat the bow")
    thread = double.state.add_thread(channel, "Leaks [urgent]", start["id"])
    await double.gateway.dispatch("THREAD_CREATE", thread)
    first = await _ask(double, stage, thread, ann, "what can he do?")
    second = await _ask(double, stage, thread, ann, "and then?")

    expected = 'Bob: [beginning of the thread "Leaks (urgent)"]\n  My boat leaks\n  at the bow\n'
    assert expected in first
    assert expected in second
    assert len(double.calls("GET", f"/messages/{start['id']}")) == 1


async def test_a_forum_post_is_seen_with_its_title(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    guild = double.state.guilds[channel["guild_id"]]
    forum = double.state.add_channel(guild, "help", kind=payloads.FORUM)
    post = double.state.add_thread(forum, "How to tie a bowline?")
    bob = double.state.add_user("bob")
    double.state.write(post["id"], bob, "I never get it right", message_id=post["id"])
    async with BotSetup(double) as stage:
        prompt = await _ask(double, stage, post, ann, "can you help?")

    title = 'Bob: [beginning of the forum post "How to tie a bowline?"]'
    assert f"{title}\n  I never get it right" in prompt


async def test_a_thread_without_a_first_message_is_known_by_its_title(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    thread = double.state.add_thread(channel, "Cooking")
    await double.gateway.dispatch("THREAD_CREATE", thread)

    assert '[beginning of the thread "Cooking"]' in await _ask(double, stage, thread, ann, "hi")


async def test_the_messages_that_are_replied_to_in_turn_are_seen_up_to_the_limit(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    bob = double.state.add_user("bob")
    chain: list[Json] = []
    for number in range(8):
        more = {"reply_to": _ref(chain[-1])} if chain else {}
        chain.append(double.state.write(channel["id"], bob, f"link {number}", **more))
    asked = double.mention("and?")
    await stage.answer_to(await double.say(channel, ann, asked, reply_to=_ref(chain[-1])))
    prompt = _prompt(stage)
    fetched = len(double.calls("GET", f"/messages/{chain[5]['id']}"))
    await stage.answer_to(await double.say(channel, ann, asked, reply_to=_ref(chain[-1])))

    seen = [number for number in range(8) if f"link {number}" in prompt]
    assert seen == [3, 4, 5, 6, 7]
    assert prompt.index("link 3") < prompt.index("link 6") < prompt.index("link 7")
    assert fetched == len(double.calls("GET", f"/messages/{chain[5]['id']}")) == 1


async def test_a_person_who_opted_out_is_left_out_of_a_chain(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    bob = double.state.add_user("bob")
    first = double.state.write(channel["id"], bob, "bob's secret")
    second = double.state.write(channel["id"], ann, "indeed", reply_to=_ref(first))
    await stage.router.preferences.opt_out("discord", bob["id"], out=True)
    asked = await double.say(channel, ann, double.mention("and?"), reply_to=_ref(second))
    await stage.answer_to(asked)

    assert "indeed" in _prompt(stage)
    assert "secret" not in _prompt(stage)


async def test_a_deleted_message_is_no_longer_seen(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    first = double.state.write(channel["id"], ann, "regretted")
    second = double.state.write(channel["id"], ann, "a reply", reply_to=_ref(first))
    text = double.mention("and?")
    await stage.answer_to(await double.say(channel, ann, text, reply_to=_ref(second)))
    before = _prompt(stage)
    await double.delete(first)
    await stage.answer_to(await double.say(channel, ann, text, reply_to=_ref(second)))

    assert "regretted" in before
    assert "regretted" not in _prompt(stage)


async def test_forgotten_messages_are_not_kept_in_memory(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    first = double.state.write(channel["id"], ann, "one")
    second = double.state.write(channel["id"], ann, "two", reply_to=_ref(first))
    text = double.mention("and?")
    await stage.answer_to(await double.say(channel, ann, text, reply_to=_ref(second)))
    option = {"name": "me", "type": 1, "options": []}
    exchange = await double.slash(channel, ann, "forget", option)
    await double.until(lambda: exchange.answers)
    await stage.answer_to(await double.say(channel, ann, text, reply_to=_ref(second)))

    assert len(double.calls("GET", f"/messages/{first['id']}")) == 2


async def test_a_linked_message_of_the_same_server_is_seen(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    other = double.state.add_channel(double.state.guilds[channel["guild_id"]], "news")
    await double.gateway.dispatch("CHANNEL_CREATE", other)
    bob = double.state.add_user("bob")
    linked = double.state.write(other["id"], bob, "The ship has arrived")
    prompt = await _ask(double, stage, channel, ann, f"what does {_link(linked)} mean?")

    assert "Bob: [message in #news that the next one links to]\n  The ship has arrived" in prompt


@pytest.mark.parametrize("denied", [VIEW, READ_HISTORY])
async def test_a_link_to_a_channel_that_the_asking_person_cannot_read_is_not_followed(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json, denied: int
) -> None:
    guild = double.state.guilds[channel["guild_id"]]
    staff = double.state.add_channel(guild, "staff")
    role = double.state.add_role(guild, "Staff")
    staff["permission_overwrites"] = [
        overwrite(guild["id"], deny=denied),
        overwrite(role["id"], allow=denied),
        overwrite(double.state.me["id"], allow=denied, member=True),
    ]
    await double.gateway.dispatch("GUILD_ROLE_CREATE", {"guild_id": guild["id"], "role": role})
    await double.gateway.dispatch("CHANNEL_CREATE", staff)
    boss = double.state.add_user("chief")
    double.state.roles[boss["id"]].append(role["id"])
    linked = double.state.write(staff["id"], boss, "Ann will be promoted")
    refused = await _ask(double, stage, channel, ann, f"what is {_link(linked)}?")
    allowed = await _ask(double, stage, channel, boss, f"what is {_link(linked)}?")

    assert "promoted" not in refused
    assert "promoted" in allowed


async def test_a_link_to_another_server_is_not_followed(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    elsewhere = double.state.add_channel(double.state.add_guild("Elsewhere"), "general")
    linked = double.state.write(elsewhere["id"], ann, "from elsewhere")

    assert "from elsewhere" not in await _ask(double, stage, channel, ann, _link(linked))


async def test_a_forwarded_message_names_its_author_where_the_original_can_be_read(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    bob = double.state.add_user("bob")
    original = double.state.write(channel["id"], bob, "the news")
    await double.forward(channel, ann, original)
    private = double.state.write(double.state.dm_with(ann)["id"], bob, "a whisper")
    del double.state.messages[private["channel_id"]][private["id"]]
    await double.forward(channel, ann, private)
    prompt = await _ask(double, stage, channel, ann, "what do you think?")

    assert "Ann: [forwarded message from Bob]\n  the news" in prompt
    assert "Ann: [forwarded message]\n  a whisper" in prompt


async def test_a_client_that_is_being_closed_reads_nothing(
    rest_client: discord.Client, channel: Json
) -> None:
    await rest_client.close()

    assert await MessageCache().get(rest_client, int(channel["id"]), int(channel["id"])) is None
    assert not await can_read(rest_client, discord.Object(1), int(channel["id"]))


async def test_a_channel_is_read_back_once_where_that_is_switched_on(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    bob = double.state.add_user("bob")
    for number in range(5):
        double.state.write(channel["id"], bob, f"before {number}")
    async with BotSetup(double, settings=_reading_back(3)) as stage:
        first = await _ask(double, stage, channel, ann, "hello")
        mod = {"name": "Manage", "permissions": str(1 << 13)}
        exchange = await double.slash(channel, ann, "reset", permissions=mod["permissions"])
        await double.until(lambda: exchange.answers)
        second = await _ask(double, stage, channel, ann, "hello again")

    assert [n for n in range(5) if f"before {n}" in first] == [2, 3, 4]
    assert first.index("Bob: before 2") < first.index("Bob: before 4") < first.index("hello")
    assert "before" not in second


async def test_a_channel_is_not_read_back_by_default(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    double.state.write(channel["id"], ann, "before")

    assert "before" not in await _ask(double, stage, channel, ann, "hello")


async def test_without_the_right_to_read_history_the_bot_answers_without_context(
    double: DiscordDouble, channel: Json, ann: Json
) -> None:
    guild = double.state.guilds[channel["guild_id"]]
    channel["permission_overwrites"] = [overwrite(guild["id"], deny=READ_HISTORY)]
    first = double.state.write(channel["id"], ann, "the root")
    second = double.state.write(channel["id"], ann, "the branch", reply_to=_ref(first))
    async with BotSetup(double) as stage:
        asked = await double.say(channel, ann, double.mention("and?"), reply_to=_ref(second))
        await double.until(lambda: double.sent(channel))

    assert double.answers_to(asked) == []
    assert "the branch" in _prompt(stage)
    assert "the root" not in _prompt(stage)
