"""The double of Discord itself, driven by a bare discord.py client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import discord
import pytest
from discord.gateway import DiscordWebSocket
from discord.http import Route
from yarl import URL

from discord_double.double import DiscordDouble, pings_of
from discord_double.rest import Fault


class Listener(discord.AutoShardedClient):
    def __init__(self) -> None:
        intents = discord.Intents(guilds=True, messages=True, message_content=True)
        super().__init__(intents=intents, guild_ready_timeout=0.1)
        self.heard: list[discord.Message] = []

    async def on_message(self, message: discord.Message) -> None:
        self.heard.append(message)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        return


@asynccontextmanager
async def _listening(to: DiscordDouble) -> AsyncIterator[Listener]:
    Route.BASE = to.api_url
    DiscordWebSocket.DEFAULT_GATEWAY = URL(to.gateway_url)
    client = Listener()
    running = asyncio.create_task(client.start(to.token))
    try:
        await to.ready()
        yield client
    finally:
        await client.close()
        with suppress(discord.DiscordException):
            await running


async def test_a_message_reaches_the_client_and_its_answer_lands() -> None:
    async with DiscordDouble() as discord_:
        channel = discord_.state.add_channel(discord_.state.add_guild(), "general")
        ann = discord_.state.add_user("ann")
        async with _listening(discord_) as client:
            await discord_.say(channel, ann, "hello")
            heard = await discord_.until(lambda: client.heard)
            await heard[0].reply("hi", mention_author=False)

            (sent,) = discord_.sent(channel)
            assert sent["content"] == "hi"
            assert discord_.answers_to(discord_.state.messages[channel["id"]][sent["id"]]) == []
            assert "everyone" in pings_of(discord_.calls("POST", "/messages")[0].body)


async def test_events_missed_while_disconnected_come_with_the_resume() -> None:
    async with DiscordDouble() as discord_:
        channel = discord_.state.add_channel(discord_.state.add_guild(), "general")
        ann = discord_.state.add_user("ann")
        async with _listening(discord_) as client:
            await discord_.say(channel, ann, "seen")
            await discord_.until(lambda: client.heard)
            discord_.gateway.replays = 1
            await discord_.gateway.drop()
            await discord_.say(channel, ann, "missed")

            await discord_.until(lambda: len(client.heard) == 3)
            assert [m.content for m in client.heard] == ["seen", "seen", "missed"]


async def test_an_answer_lost_after_the_effect_is_not_sent_twice_thanks_to_the_nonce() -> None:
    async with DiscordDouble() as discord_:
        channel = discord_.state.add_channel(discord_.state.add_guild(), "general")
        ann = discord_.state.add_user("ann")
        async with _listening(discord_) as client:
            await discord_.say(channel, ann, "hello")
            heard = await discord_.until(lambda: client.heard)
            discord_.spoil(Fault("POST", ".*/messages", 502, after_effect=True))
            await heard[0].channel.send("once")

            assert [m["content"] for m in discord_.sent(channel)] == ["once"]
            assert len(discord_.calls("POST", "/messages")) == 2


async def test_a_missing_content_intent_closes_with_4014() -> None:
    async with DiscordDouble() as discord_:
        discord_.gateway.content_intent_granted = False
        Route.BASE = discord_.api_url
        DiscordWebSocket.DEFAULT_GATEWAY = URL(discord_.gateway_url)
        async with Listener() as client:
            with pytest.raises(discord.PrivilegedIntentsRequired):
                await client.start(discord_.token)
