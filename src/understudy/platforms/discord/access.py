"""What a person may read on Discord, and which permissions a command or the bot has."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import discord

from understudy.platforms.discord.sender import PASSING, retry_discord

Readable = discord.TextChannel | discord.ForumChannel | discord.VoiceChannel
NEEDED = ("Send Messages", "Send Messages in Threads", "Read Message History")
"""Without one of them replies are missing or do not refer to their question."""


async def can_read(client: discord.Client, user: discord.abc.Snowflake, channel_id: int) -> bool:
    """Whether the person can read the history of that channel now; False where it is unknown."""
    channel = await _channel(client, channel_id)
    if isinstance(channel, discord.DMChannel):
        return channel.recipient is not None and channel.recipient.id == user.id
    if not isinstance(channel, discord.abc.GuildChannel | discord.Thread):
        return False
    member = await _member(channel.guild, user)
    if member is None:
        return False
    try:
        may = channel.permissions_for(member)
    except discord.ClientException:
        # A thread whose parent channel the bot does not see.
        return False
    if not (may.view_channel and may.read_message_history):
        return False
    if isinstance(channel, discord.Thread) and channel.is_private() and not may.manage_threads:
        return await _takes_part(channel, member)
    return True


async def _channel(client: discord.Client, channel_id: int) -> object:
    known = client.get_channel(channel_id)
    if known is not None:
        return known
    with suppress(discord.HTTPException, discord.InvalidData, *PASSING):
        return await retry_discord(partial(client.fetch_channel, channel_id))
    return None


async def _member(guild: discord.Guild, user: discord.abc.Snowflake) -> discord.Member | None:
    """A message carries its author's roles; anybody else is asked for."""
    if isinstance(user, discord.Member) and user.guild == guild:
        return user
    with suppress(discord.HTTPException, *PASSING):
        return await retry_discord(partial(guild.fetch_member, user.id))
    return None


async def _takes_part(thread: discord.Thread, member: discord.Member) -> bool:
    with suppress(discord.HTTPException, *PASSING):
        await retry_discord(partial(thread.fetch_member, member.id))
        return True
    return False


def lacking(guild: discord.Guild) -> dict[str, list[str]]:
    """Permissions of NEEDED that the bot lacks → the names of those channels that it can see."""
    found: dict[str, list[str]] = {}
    channels: list[Readable] = [*guild.text_channels, *guild.forums, *guild.voice_channels]
    for channel in channels:
        may = channel.permissions_for(guild.me)
        if may.view_channel:
            for name in missing_in(may.value):
                found.setdefault(name, []).append(channel.name)
    return found


def missing_in(permissions: int) -> Iterator[str]:
    """The names of NEEDED that are not among these permission bits."""
    may = discord.Permissions(permissions)
    for name, has in zip(
        NEEDED,
        (may.send_messages, may.send_messages_in_threads, may.read_message_history),
        strict=True,
    ):
        if not has:
            yield name
