"""What a person may read on Discord, and what the bot lacks."""

from contextlib import suppress
from functools import partial

import discord

from understudy.platforms.discord.permissions import missing_permissions
from understudy.platforms.discord.sender import UNREADABLE, retry_discord

Readable = discord.TextChannel | discord.ForumChannel | discord.VoiceChannel


def can_answer(message: discord.Message, me_id: int) -> bool:
    """False only when the known permissions forbid a reply."""
    channel, guild = message.channel, message.guild
    me = guild.get_member(me_id) if guild is not None else None
    if me is None or not isinstance(channel, discord.abc.GuildChannel | discord.Thread):
        return True
    may = channel.permissions_for(me)
    if isinstance(channel, discord.Thread):
        return may.send_messages_in_threads
    return may.send_messages


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
    with suppress(*UNREADABLE):
        return await retry_discord(partial(client.fetch_channel, channel_id))
    return None


async def _member(guild: discord.Guild, user: discord.abc.Snowflake) -> discord.Member | None:
    """A message carries its author's roles; anybody else is asked for."""
    if isinstance(user, discord.Member) and user.guild == guild:
        return user
    with suppress(*UNREADABLE):
        return await retry_discord(partial(guild.fetch_member, user.id))
    return None


async def _takes_part(thread: discord.Thread, member: discord.Member) -> bool:
    with suppress(*UNREADABLE):
        await retry_discord(partial(thread.fetch_member, member.id))
        return True
    return False


def lacking(guild: discord.Guild, me_id: int) -> list[str]:
    """What the bot lacks on a server, as sentences."""
    me = guild.get_member(me_id)
    if me is None:
        return []
    channels: list[Readable] = [*guild.text_channels, *guild.forums, *guild.voice_channels]
    return missing_permissions(
        (channel.name, channel.permissions_for(me).value) for channel in channels
    )
