"""What all slash commands share: who asks, and answering only them."""

from collections.abc import Callable

import discord
from discord import app_commands

from understudy.platforms.discord.rendering import split

Client = discord.AutoShardedClient
Asked = discord.Interaction[Client]
Tree = app_commands.CommandTree[Client]
IsAdmin = Callable[[int], bool]
"""Whether that user may do everything."""


async def say(asked: Asked, text: str) -> None:
    """The answer, seen only by who asked."""
    if not asked.response.is_done():
        await think(asked)
    for part in split(text)[:3]:
        await asked.followup.send(
            part, ephemeral=True, allowed_mentions=discord.AllowedMentions.none()
        )


async def think(asked: Asked) -> None:
    await asked.response.defer(ephemeral=True, thinking=True)
