"""What concerns only the operator: messages to the admins, and the invite link."""

import asyncio
from collections.abc import AsyncIterator

import discord
import pytest

from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from discord_double.permissions import READ_HISTORY, SEND_IN_THREADS, overwrite
from understudy.app.setup.discord_permissions import check_permissions
from understudy.config.settings import Discord
from understudy.llm.http.endpoint import HttpSessions
from understudy.platforms.discord.admin_alerts import AdminAlerts
from understudy.platforms.discord.invite import PERMISSIONS, invite_link


@pytest.fixture
async def admins(double: DiscordDouble, rest_client: discord.Client) -> AsyncIterator[AdminAlerts]:
    ids = tuple(double.state.add_user(name)["id"] for name in ("boss", "deputy"))

    async def connected() -> discord.Client:
        return rest_client

    made = AdminAlerts(connected, lambda: (*ids, "nobody"))
    telling = asyncio.create_task(made.run())
    yield made
    telling.cancel()
    await asyncio.wait({telling})


async def test_each_admin_gets_the_message(double: DiscordDouble, admins: AdminAlerts) -> None:
    admins.enqueue("openrouter refuses the key")
    await double.until(lambda: len(double.sent()) == 2)

    assert {m["content"] for m in double.sent()} == {"openrouter refuses the key"}
    assert len({m["channel_id"] for m in double.sent()}) == 2


async def test_an_admin_who_cannot_be_reached_does_not_keep_the_others_from_hearing(
    double: DiscordDouble, admins: AdminAlerts
) -> None:
    boss = next(u for u in double.state.users.values() if u["username"] == "boss")
    double.state.forbidden.add((double.state.dm_with(boss)["id"], "send"))
    admins.enqueue("first")
    admins.enqueue("second")

    await double.until(lambda: [m["content"] for m in double.sent()] == ["first", "second"])


def test_the_invite_asks_for_what_the_bot_uses_and_no_more() -> None:
    link = invite_link(42)

    assert "client_id=42" in link
    assert "scope=bot+applications.commands" in link
    assert f"permissions={PERMISSIONS.value}" in link
    assert not PERMISSIONS.administrator
    assert not PERMISSIONS.mention_everyone


async def test_doctor_names_the_permissions_that_the_bot_lacks(
    double: DiscordDouble, channel: Json
) -> None:
    guild = double.state.guilds[channel["guild_id"]]
    role = double.state.add_role(guild, "Bots")
    double.state.roles[double.state.me["id"]].append(role["id"])
    opened = double.state.add_channel(guild, "opened")
    for place in (channel, opened):
        place["permission_overwrites"] = [overwrite(guild["id"], deny=READ_HISTORY)]
    opened["permission_overwrites"].append(overwrite(role["id"], allow=READ_HISTORY))
    double.state.add_channel(double.state.add_guild("Fine"), "general")
    quiet = double.state.add_guild("Quiet")
    quiet["roles"][0]["permissions"] = str(int(quiet["roles"][0]["permissions"]) & ~SEND_IN_THREADS)
    for number in range(7):
        double.state.add_channel(quiet, f"c{number}")
    settings = Discord.model_validate({"token": double.token})
    sessions = HttpSessions()
    try:
        checks = await check_permissions(settings, sessions, double.api_url)
        refused = await check_permissions(
            Discord.model_validate({"token": "wrong"}), sessions, double.api_url
        )
    finally:
        await sessions.aclose()

    assert [(check.name, check.ok) for check in checks] == [
        ("discord server Theatre", True),
        ("discord server Quiet", True),
    ]
    assert checks[0].advice.startswith("I lack the permission Read Message History in #general: ")
    assert "Send Messages in Threads in #c0, #c1, #c2, #c3, #c4 and 2 more:" in checks[1].advice
    assert refused == ()
