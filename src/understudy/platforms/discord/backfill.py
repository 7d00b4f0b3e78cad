"""Catches up after a gap: finds the messages that arrived while the bot was disconnected."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import discord
import structlog

from understudy.conversation.inbox import Watermark
from understudy.platforms.discord.sender import PASSING, UNREADABLE, retry_discord

_log = structlog.get_logger()

_SCANNED = 1000
"""Messages fetched per channel at most, a hundred per request. The bot's own replies count, and in
a busy channel they alone can be more than a hundred since the watermark."""
_SURVEY_WAIT_S = 30.0
"""How long new messages wait for a session to list its servers, which shows their gaps."""
_OVERLAP_MS = 120_000
"""A crash can lose a message although a later one was stored, so messages shortly before the
watermark are fetched again; the inbox drops duplicates."""
_MS_SHIFT = 22
"""The bits of an id below its time in milliseconds."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A channel with messages after the last one that was read."""

    channel: discord.PartialMessageable
    after: int


class GapTracker:
    """Which gaps are still open. New messages of a channel wait until its gap is filled: stored
    earlier, they would move the watermark past it, and a crash would lose its messages."""

    def __init__(self) -> None:
        self._surveyed: dict[int, asyncio.Event] = {}
        self._open: dict[int, list[Gap]] = {}
        """By channel. A session that ends early leaves its gaps to its catch-up, which still runs
        when the next session finds its own."""
        self._filled: dict[int, asyncio.Event] = {}

    def session_begins(self, shard_id: int, marks: Sequence[Watermark]) -> None:
        survey = self._surveyed.get(shard_id)
        if survey is None or survey.is_set():
            # An open survey belongs to a session that ended early: its messages wait for this one.
            survey = self._surveyed[shard_id] = asyncio.Event()
        if not marks:
            survey.set()

    def found(self, shard_id: int, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            self._open.setdefault(gap.channel.id, []).append(gap)
            self._filled.setdefault(gap.channel.id, asyncio.Event())
        if shard_id in self._surveyed:
            self._surveyed[shard_id].set()

    def closed(self, gap: Gap) -> None:
        channel_id = gap.channel.id
        left = [one for one in self._open.pop(channel_id, ()) if one is not gap]
        if left:
            self._open[channel_id] = left
        elif filled := self._filled.pop(channel_id, None):
            filled.set()

    async def wait(self, shard_id: int, channel_id: int) -> None:
        """Wait until the channel has no gap. Catching up closes every gap, however it ends."""
        try:
            async with asyncio.timeout(_SURVEY_WAIT_S):
                if survey := self._surveyed.get(shard_id):
                    await survey.wait()
        except TimeoutError:
            _log.warning("discord.catch_up_slow", channel=str(channel_id))
        if filled := self._filled.get(channel_id):
            await filled.wait()


def gaps(
    client: discord.Client, marks: Sequence[Watermark], guilds: Iterable[discord.Guild]
) -> list[Gap]:
    """The gaps since `marks`. Without marks the bot has never run, and nothing was missed.

    Channels carry the id of their newest message; direct messages must be requested.
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


async def direct_channels(client: discord.Client, people: Iterable[str]) -> AsyncIterator[Gap]:
    """The direct channels of these people, each as a gap of unknown size."""
    for user_id in people:
        if not user_id.isdigit():
            continue
        try:
            channel = await retry_discord(partial(client.create_dm, discord.Object(int(user_id))))
        except UNREADABLE as error:
            _log.debug("discord.catch_up_failed", user=user_id, error=type(error).__name__)
            continue
        yield Gap(_partial(client, channel.id), 0)


async def missed_messages(gap: Gap, since: datetime) -> AsyncIterator[discord.Message]:
    """The messages of the gap, oldest first, none from before `since`."""
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
