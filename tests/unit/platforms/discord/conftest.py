"""Real discord.py messages made from JSON, without a connection."""

from collections.abc import Callable

import discord
import pytest

from discord_double import payloads
from discord_double.payloads import Json
from discord_double.state import DiscordState

Make = Callable[..., discord.Message]


@pytest.fixture
def discord_state() -> DiscordState:
    return DiscordState()


@pytest.fixture
def make(discord_state: DiscordState) -> Make:
    """Writes a message into a channel and gives it as discord.py would."""
    client = discord.Client(intents=discord.Intents.none())
    state = client._connection
    state.user = discord.ClientUser(state=state, data=discord_state.me)  # type: ignore[arg-type]

    def made(channel: Json, author: Json, content: str, **more: object) -> discord.Message:
        data = discord_state.write(channel["id"], author, content, **more)
        if "guild_id" not in channel:
            dm = discord.DMChannel._from_message(state, int(channel["id"]))
            return discord.Message(state=state, channel=dm, data=data)  # type: ignore[arg-type]
        guild = state._get_guild(int(channel["guild_id"])) or state._add_guild_from_data(
            discord_state.guilds[channel["guild_id"]]  # type: ignore[arg-type]
        )
        place = guild.get_channel_or_thread(int(channel["id"])) or discord.PartialMessageable(
            state, int(channel["id"]), guild.id
        )
        return discord.Message(state=state, channel=place, data=data)  # type: ignore[arg-type]

    return made


@pytest.fixture
def channel(discord_state: DiscordState) -> Json:
    return discord_state.add_channel(discord_state.add_guild(), "general")


@pytest.fixture
def ann(discord_state: DiscordState) -> Json:
    return discord_state.add_user("ann")


@pytest.fixture
def dm(discord_state: DiscordState, ann: Json) -> Json:
    return discord_state.dm_with(ann)


__all__ = ["Make", "payloads"]
