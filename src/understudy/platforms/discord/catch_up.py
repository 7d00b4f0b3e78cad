"""After a gap: what people asked of the bot while nobody listened."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import discord
import structlog

from understudy.conversation.inbox import Watermark

_log = structlog.get_logger()

_SCANNED = 100
"""Messages looked at in one channel."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A channel in which something was written after the last message that was read."""

    channel: discord.PartialMessageable
    after: int


def gaps(
    client: discord.Client, marks: Sequence[Watermark], guilds: Iterable[discord.Guild]
) -> list[Gap]:
    """Where to look. Without any mark the bot has never listened, and nothing was missed.

    Channels tell their newest message without a request; direct messages have to be asked for.
    """
    if not marks:
        return []
    read = {mark.place.channel_id: int(mark.message_id) for mark in marks}
    floor = max(read.values())
    found = []
    for guild in guilds:
        for channel in (*guild.channels, *guild.threads):
            newest = getattr(channel, "last_message_id", None)
            after = read.get(str(channel.id), floor)
            if newest is not None and newest > after:
                found.append(Gap(_partial(client, channel.id, guild.id), after))
    private = (mark for mark in marks if mark.place.private)
    found += [
        Gap(_partial(client, int(mark.place.channel_id)), int(mark.message_id)) for mark in private
    ]
    return found


async def missed(gap: Gap, since: datetime) -> AsyncIterator[discord.Message]:
    """What was written in the gap, oldest first, nothing from before `since`."""
    after = discord.Object(max(gap.after, discord.utils.time_snowflake(since)))
    try:
        newest_first = [
            message
            async for message in gap.channel.history(
                limit=_SCANNED, after=after, oldest_first=False
            )
        ]
    except discord.HTTPException as error:
        _log.info("discord.catch_up_failed", channel=str(gap.channel.id), status=error.status)
        return
    for message in reversed(newest_first):
        yield message


def _partial(
    client: discord.Client, channel_id: int, guild_id: int | None = None
) -> discord.PartialMessageable:
    return client.get_partial_messageable(channel_id, guild_id=guild_id)
