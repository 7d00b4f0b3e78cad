"""Real discord.py messages made from JSON, without a connection."""

from collections.abc import Callable

import discord
import pytest

from discord_double import payloads
from discord_double.payloads import Json
from discord_double.state import World

Make = Callable[..., discord.Message]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make(world: World) -> Make:
    """Writes a message into a channel and gives it as discord.py would."""
    client = discord.Client(intents=discord.Intents.none())
    state = client._connection
    state.user = discord.ClientUser(state=state, data=world.me)  # type: ignore[arg-type]

    def made(channel: Json, author: Json, content: str, **more: object) -> discord.Message:
        data = world.write(channel["id"], author, content, **more)
        if "guild_id" not in channel:
            dm = discord.DMChannel._from_message(state, int(channel["id"]))
            return discord.Message(state=state, channel=dm, data=data)  # type: ignore[arg-type]
        guild = state._get_guild(int(channel["guild_id"])) or state._add_guild_from_data(
            world.guilds[channel["guild_id"]]  # type: ignore[arg-type]
        )
        place = guild.get_channel_or_thread(int(channel["id"])) or discord.PartialMessageable(
            state, int(channel["id"]), guild.id
        )
        return discord.Message(state=state, channel=place, data=data)  # type: ignore[arg-type]

    return made


@pytest.fixture
def channel(world: World) -> Json:
    return world.add_channel(world.add_guild(), "general")


@pytest.fixture
def ann(world: World) -> Json:
    return world.add_user("ann")


@pytest.fixture
def dm(world: World, ann: Json) -> Json:
    return world.dm_with(ann)


__all__ = ["Make", "payloads"]
