"""Slash commands over the double: deferred, private, permission-checked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conversation_driver import settings
from discord_double.bot_setup import QUICK_EDITS, BotSetup
from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from discord_double.permissions import (
    MANAGE_MESSAGES,
    MANAGE_SERVER,
    READ_HISTORY,
    SEND,
    VIEW,
    overwrite,
)
from discord_double.rest import Exchange
from understudy.conversation.inbox import Channel
from waiting import LIMIT_S

pytestmark = pytest.mark.slow


class Records:
    """What the commands asked of the rest of the program."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.levels: list[str] = []

    async def why(self, reply_id: str) -> str | None:
        self.asked.append(reply_id)
        return f"answered: local, reply {reply_id}"

    async def usage(self, user: str | None) -> str | None:
        self.asked.append(user)
        return "3 replies"


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
async def stage(
    double: DiscordDouble, channel: Json, ann: Json, records: Records
) -> AsyncIterator[BotSetup]:
    boss = double.state.add_user("boss")
    conf = settings(discord=QUICK_EDITS.model_copy(update={"admins": (boss["id"],)}))
    context: dict[str, Any] = {
        "why": records.why,
        "usage": records.usage,
        "providers": lambda: "local: fine",
        "set_log_level": records.levels.append,
    }
    async with BotSetup(double, settings=conf, **context) as made:
        await double.until(lambda: double.state.commands.get("global"))
        yield made


def _moderator(double: DiscordDouble, channel: Json, name: str, allowed: int) -> Json:
    """A person with a role of that name and these permissions."""
    person = double.state.add_user(name)
    role = double.state.add_role(double.state.guilds[channel["guild_id"]], name, allowed)
    double.state.roles[person["id"]].append(role["id"])
    return person


def _boss(double: DiscordDouble) -> Json:
    return next(u for u in double.state.users.values() if u["username"] == "boss")


async def _response_text(double: DiscordDouble, exchange: Exchange) -> str:
    await double.until(lambda: exchange.answers)
    return exchange.text


async def test_why_tells_the_route_of_the_last_reply_privately(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    await stage.answer_to(await double.say(channel, ann, double.mention("hi")))
    reply_id = await _stored_reply(stage, channel)
    exchange = await double.slash(channel, ann, "why")

    assert await _response_text(double, exchange) == f"answered: local, reply {reply_id}"
    assert exchange.deferred
    assert exchange.ephemeral


async def test_why_takes_a_link_to_a_reply(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    answer = await stage.answer_to(await double.say(channel, ann, double.mention("hi")))
    reply_id = await _stored_reply(stage, channel)
    link = f"https://discord.com/channels/1/{channel['id']}/{answer['id']}"
    option = {"name": "message", "type": 3, "value": link}

    assert reply_id in await _response_text(double, await double.slash(channel, ann, "why", option))


async def test_the_context_menu_asks_about_one_reply(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    answer = await stage.answer_to(await double.say(channel, ann, double.mention("hi")))
    reply_id = await _stored_reply(stage, channel)

    assert reply_id in await _response_text(
        double, await double.ask_about(answer, ann, "Why this reply?")
    )


async def test_why_says_so_where_there_is_no_reply(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    assert "no record of a reply" in await _response_text(
        double, await double.slash(channel, ann, "why")
    )


async def test_usage_is_ones_own_and_everybodys_for_the_operator(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json, records: Records
) -> None:
    await _response_text(double, await double.slash(channel, ann, "usage"))
    await _response_text(double, await double.slash(channel, _boss(double), "usage"))

    assert records.asked == [f"discord:{ann['id']}", None]


async def test_the_log_level_is_for_the_operator(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json, records: Records
) -> None:
    option = {"name": "level", "type": 3, "value": "debug"}
    refused = await _response_text(double, await double.slash(channel, ann, "loglevel", option))
    await _response_text(double, await double.slash(channel, _boss(double), "loglevel", option))

    assert "operator" in refused
    assert records.levels == ["debug"]


async def test_providers_in_a_direct_message_are_for_the_operator(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    dm = double.state.dm_with(ann)
    manager = _moderator(double, channel, "manager", MANAGE_SERVER)

    assert "operator" in await _response_text(double, await double.slash(dm, ann, "providers"))
    assert (
        await _response_text(double, await double.slash(channel, manager, "providers"))
        == "local: fine"
    )


async def test_providers_names_the_permissions_that_the_bot_lacks_on_the_server(
    double: DiscordDouble, channel: Json
) -> None:
    guild = double.state.guilds[channel["guild_id"]]
    channel["permission_overwrites"] = [overwrite(guild["id"], deny=READ_HISTORY)]
    double.state.add_channel(guild, "fine")
    closed = double.state.add_channel(guild, "closed")
    closed["permission_overwrites"] = [overwrite(guild["id"], deny=READ_HISTORY | SEND)]
    manager = _moderator(double, channel, "manager", MANAGE_SERVER)
    async with BotSetup(double, providers=lambda: "local: fine"):
        await double.ready()
        text = await _response_text(double, await double.slash(channel, manager, "providers"))

    assert text == (
        "local: fine\nI lack the permission Read Message History in #general: answers there do not "
        "refer to their questions, and what is replied to may be missing."
    )


@pytest.mark.parametrize(
    ("command", "permission"),
    [("reset", "Manage Messages"), ("mute", "Manage Messages"), ("providers", "Manage Server")],
)
async def test_a_command_that_the_server_shows_to_everyone_still_needs_its_permission(
    double: DiscordDouble,
    stage: BotSetup,
    channel: Json,
    ann: Json,
    command: str,
    permission: str,
) -> None:
    text = await _response_text(double, await double.slash(channel, ann, command))

    assert text == f"That needs the permission {permission}."


@pytest.mark.parametrize("sub", ["show", "clear"])
async def test_persona_commands_need_manage_messages(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json, sub: str
) -> None:
    option = {"name": sub, "type": 1, "options": []}
    text = await _response_text(double, await double.slash(channel, ann, "persona", option))

    assert text == "That needs the permission Manage Messages."


async def test_reset_in_a_direct_message_is_for_the_person_who_writes_there(
    double: DiscordDouble, stage: BotSetup, ann: Json
) -> None:
    dm = double.state.dm_with(ann)

    assert "I ignore everything" in await _response_text(
        double, await double.slash(dm, ann, "reset")
    )


async def test_why_is_refused_for_a_reply_in_a_channel_that_the_person_cannot_read(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json, records: Records
) -> None:
    guild = double.state.guilds[channel["guild_id"]]
    hidden = double.state.add_channel(guild, "staff")
    closed = overwrite(guild["id"], deny=VIEW)
    member = _moderator(double, channel, "member", 0)
    opened = overwrite(double.state.roles[member["id"]][0], allow=VIEW)
    hidden["permission_overwrites"] = [
        closed,
        opened,
        overwrite(double.state.me["id"], allow=VIEW, member=True),
    ]
    await double.gateway.dispatch("CHANNEL_CREATE", hidden)
    answer = await stage.answer_to(await double.say(hidden, member, double.mention("hi")))
    reply_id = await _stored_reply(stage, hidden)
    option = {"name": "message", "type": 3, "value": answer["id"]}
    refused = await _response_text(double, await double.slash(channel, ann, "why", option))
    allowed = await _response_text(double, await double.slash(channel, member, "why", option))

    assert refused == "You cannot read the channel of that message."
    assert reply_id in allowed
    assert records.asked == [reply_id]


async def test_why_about_another_persons_direct_message_is_refused(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json, records: Records
) -> None:
    answer = await stage.answer_to(await double.say(double.state.dm_with(ann), ann, "psst"))
    await _stored_reply(stage, double.state.dm_with(ann))
    bob = double.state.add_user("bob")
    option = {"name": "message", "type": 3, "value": answer["id"]}
    refused = await _response_text(double, await double.slash(channel, bob, "why", option))

    assert refused == "You cannot read the channel of that message."
    assert records.asked == []


async def test_mute_keeps_the_bot_silent_until_it_ends(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    mod = _moderator(double, channel, "mod", MANAGE_MESSAGES)
    await _response_text(double, await double.slash(channel, mod, "mute", _duration("2h")))
    muted = await double.say(channel, ann, double.mention("hello?"))
    await _response_text(double, await double.slash(channel, mod, "mute", _duration("0")))
    await stage.answer_to(await double.say(channel, ann, double.mention("now?")))

    assert double.answers_to(muted) == []


async def test_mute_explains_a_duration_it_does_not_understand(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    mod = _moderator(double, channel, "mod", MANAGE_MESSAGES)
    text = await _response_text(double, await double.slash(channel, mod, "mute", _duration("soon")))

    assert "Try 30m" in text


async def test_optout_leaves_messages_unread_until_one_is_back(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    await _response_text(double, await double.slash(channel, ann, "optout"))
    unread = await double.say(channel, ann, double.mention("secret"))
    back = {"name": "back", "type": 5, "value": True}
    await _response_text(double, await double.slash(channel, ann, "optout", back))
    await stage.answer_to(await double.say(channel, ann, double.mention("hi")))

    assert double.answers_to(unread) == []


async def test_a_reply_does_not_quote_a_person_who_opted_out(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    bob = double.state.add_user("bob")
    await _response_text(double, await double.slash(channel, ann, "optout"))
    private = await double.say(channel, ann, "my secret")
    answers_to = {"message_id": private["id"], "channel_id": channel["id"]}
    asked = await double.say(channel, bob, double.mention("why?"), reply_to=answers_to)
    await stage.answer_to(asked)

    (prompt,) = stage.models.prompts
    assert "secret" not in str(prompt.request.messages)
    assert "why?" in str(prompt.request.messages)


async def test_reset_and_forget_me_empty_the_memory(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    await stage.answer_to(await double.say(channel, ann, double.mention("a secret")))
    forget = {"name": "me", "type": 1, "options": []}

    assert "text of 1 of your messages" in await _response_text(
        double, await double.slash(channel, ann, "forget", forget)
    )
    mod = _moderator(double, channel, "mod", MANAGE_MESSAGES)

    assert "I ignore everything" in await _response_text(
        double, await double.slash(channel, mod, "reset")
    )


async def test_privacy_tells_what_is_kept(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    assert "/forget me" in await _response_text(double, await double.slash(channel, ann, "privacy"))


async def test_commands_are_synced_only_when_they_changed(
    double: DiscordDouble, stage: BotSetup, channel: Json, ann: Json
) -> None:
    assert len(double.calls("PUT", "/commands")) == 1
    asked = len(double.calls("GET", "/commands"))
    async with BotSetup(double):
        await double.until(lambda: len(double.calls("GET", "/commands")) > asked)

    assert len(double.calls("PUT", "/commands")) == 1


def _duration(text: str) -> Json:
    return {"name": "duration", "type": 3, "value": text}


async def _stored_reply(stage: BotSetup, channel: Json) -> str:
    """The id of the last reply, once it is stored."""
    store, here = stage.router.store, Channel("discord", channel["id"])
    async with asyncio.timeout(LIMIT_S):
        while (found := await store.last_reply(here)) is None:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    return found
