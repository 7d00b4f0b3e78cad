"""A Discord to talk to, and a client that is logged in there without a gateway."""

from collections.abc import AsyncIterator

import discord
import pytest
from discord.gateway import DiscordWebSocket
from discord.http import Route
from yarl import URL

from discord_double.double import DiscordDouble
from discord_double.payloads import Json


@pytest.fixture
async def double() -> AsyncIterator[DiscordDouble]:
    async with DiscordDouble() as made:
        Route.BASE = made.api_url
        DiscordWebSocket.DEFAULT_GATEWAY = URL(made.gateway_url)
        yield made


@pytest.fixture
def channel(double: DiscordDouble) -> Json:
    return double.state.add_channel(double.state.add_guild(), "general")


@pytest.fixture
def ann(double: DiscordDouble) -> Json:
    return double.state.add_user("ann")


@pytest.fixture
async def rest_client(double: DiscordDouble) -> AsyncIterator[discord.Client]:
    async with discord.Client(intents=discord.Intents.none()) as client:
        await client.login(double.token)
        yield client
