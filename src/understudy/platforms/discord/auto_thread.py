"""Answers a mention in a thread of its own (`discord.auto_thread`)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import discord
import structlog

from understudy.conversation.messages import Addressed, Inbound
from understudy.platforms.discord.sender import UNREADABLE, retry_discord

_log = structlog.get_logger()

_NAME_CHARS = 80
_ARCHIVE_MINUTES: Final = 1440
_EXISTS = 160004
"""Discord's code where the message has a thread already; its id is that of the message."""


class AutoThreads:
    """`is_on` is the setting; `will_answer` decides as the message router will."""

    def __init__(self, is_on: Callable[[], bool], will_answer: Callable[[Inbound], bool]) -> None:
        self._is_on = is_on
        self._will_answer = will_answer

    async def moved(self, message: discord.Message, inbound: Inbound) -> Inbound:
        """The message as the first one of a thread; unchanged where no thread is to be made."""
        if not (self._is_on() and inbound.addressed is Addressed.MENTION):
            return inbound
        if not isinstance(message.channel, discord.TextChannel) or not self._will_answer(inbound):
            return inbound
        if not await _create(message, inbound):
            return inbound
        place = replace(
            inbound.place, channel_id=str(message.id), parent_id=inbound.place.channel_id
        )
        return replace(inbound, place=place)


async def _create(message: discord.Message, inbound: Inbound) -> bool:
    """Whether the message has a thread now."""
    title = " ".join(inbound.text.split())[:_NAME_CHARS].strip() or inbound.author.name
    create = partial(message.create_thread, name=title, auto_archive_duration=_ARCHIVE_MINUTES)
    try:
        await retry_discord(create)
    except discord.Forbidden:
        _log.warning(
            "discord.missing_permission",
            channel=inbound.place.channel_id,
            permission="Create Public Threads",
        )
        return False
    except UNREADABLE as error:
        if isinstance(error, discord.HTTPException) and error.code == _EXISTS:
            return True
        _log.info("discord.thread_failed", error=type(error).__name__)
        return False
    return True


def is_own_thread(message: discord.Message, me_id: int) -> bool:
    """Whether the message is in a thread that the bot has made."""
    channel = message.channel
    return isinstance(channel, discord.Thread) and channel.owner_id == me_id
