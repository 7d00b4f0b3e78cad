"""After a gap: what people asked of the bot while nobody listened."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import discord
import structlog

from understudy.conversation.inbox import Watermark
from understudy.platforms.discord.sender import PASSING, retry_discord

_log = structlog.get_logger()

_SCANNED = 100
"""Messages looked at in one channel."""
_PATIENCE_S = 30.0
"""Between tries of a channel that cannot be read just now."""
_OVERLAP_MS = 120_000
"""A crash may have lost a message although a later one was stored, so what was written shortly
before the watermark is looked at again; the inbox knows what it has."""
_MS_SHIFT = 22
"""The bits of an id below its time in milliseconds."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A channel in which something was written after the last message that was read."""

    channel: discord.PartialMessageable
    after: int


class GapTracker:
    """Which gaps are still open. New messages of a channel wait for its gap to close: stored
    before, they would move the watermark past it, and a crash would then lose what it held."""

    def __init__(self) -> None:
        self._surveyed: dict[int, asyncio.Event] = {}
        self._open: dict[int, asyncio.Event] = {}

    def session_begins(self, shard_id: int, marks: Sequence[Watermark]) -> None:
        survey = self._surveyed.get(shard_id)
        if survey is None or survey.is_set():
            # One that is still open belongs to a session that ended too early: its messages wait
            # for the survey of this one.
            survey = self._surveyed[shard_id] = asyncio.Event()
        if not marks:
            survey.set()

    def found(self, shard_id: int, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            self._open[gap.channel.id] = asyncio.Event()
        if shard_id in self._surveyed:
            self._surveyed[shard_id].set()

    def closed(self, gap: Gap) -> None:
        self._open.pop(gap.channel.id, asyncio.Event()).set()

    async def wait(self, shard_id: int, channel_id: int) -> None:
        """Until the channel has no gap; not for ever, lest a slow Discord keeps the bot mute."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if survey := self._surveyed.get(shard_id):
                    await survey.wait()
                if gap := self._open.get(channel_id):
                    await gap.wait()
        except TimeoutError:
            _log.warning("discord.catch_up_slow", channel=str(channel_id))


def gaps(
    client: discord.Client, marks: Sequence[Watermark], guilds: Iterable[discord.Guild]
) -> list[Gap]:
    """Where to look. Without any mark the bot has never listened, and nothing was missed.

    Channels tell their newest message without a request; direct messages have to be asked for.
    """
    if not marks:
        return []
    read = {mark.place.channel_id: int(mark.message_id) for mark in marks}
    found = []
    for guild in guilds:
        for channel in (*guild.channels, *guild.threads):
            newest = getattr(channel, "last_message_id", None)
            after = _overlapping(read.get(str(channel.id), 0))
            if newest is not None and newest > after:
                found.append(Gap(_partial(client, channel.id, guild.id), after))
    private = (mark for mark in marks if mark.place.private)
    found += [
        Gap(_partial(client, int(mark.place.channel_id)), _overlapping(int(mark.message_id)))
        for mark in private
    ]
    return found


def _overlapping(message_id: int) -> int:
    return max(0, message_id - (_OVERLAP_MS << _MS_SHIFT))


async def missed(gap: Gap, since: datetime) -> AsyncIterator[discord.Message]:
    """What was written in the gap, oldest first, nothing from before `since`."""
    after = discord.Object(max(gap.after, discord.utils.time_snowflake(since)))
    for message in reversed(await _newest_first(gap, after)):
        yield message


async def _newest_first(gap: Gap, after: discord.Object) -> list[discord.Message]:
    async def read() -> list[discord.Message]:
        history = gap.channel.history(limit=_SCANNED, after=after, oldest_first=False)
        return [message async for message in history]

    try:
        return await retry_discord(read)
    except (*PASSING, discord.HTTPException) as error:
        _log.warning(
            "discord.catch_up_failed", channel=str(gap.channel.id), error=type(error).__name__
        )
        return []


def _partial(
    client: discord.Client, channel_id: int, guild_id: int | None = None
) -> discord.PartialMessageable:
    return client.get_partial_messageable(channel_id, guild_id=guild_id)
