"""What concerns only the operator: messages to the admins, and the invite link."""

import asyncio
from collections.abc import AsyncIterator

import discord
import pytest

from discord_double.double import DiscordDouble
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
