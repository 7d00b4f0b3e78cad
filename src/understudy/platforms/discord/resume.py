"""What earlier tries of a reply left in its channel, and how a new try takes it over."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import discord

from understudy.conversation.delivery import ReplyContext
from understudy.errors import Undeliverable
from understudy.platforms.discord.rendering import Page, pointer
from understudy.platforms.discord.sender import PASSING, Sender

_OFFLINE_YOUNG_S = 120.0
"""Up to this age an offline message is edited into the answer instead of being pointed away."""


class ResumedReply:
    """Knows the offline messages of one batch, and finds half-written replies to it."""

    def __init__(self, post: Sender, task: ReplyContext, now: Callable[[], float]) -> None:
        self._post = post
        self._task = task
        self._now = now
        self.offline = [int(message_id) for message_id in task.offline_message_ids]
        """Own messages that said nobody could answer; an answer to come takes them over."""

    async def answer(self) -> list[discord.Message]:
        """The bot's reply to the trigger with the parts that follow it. Offline messages are
        told by their silence; one that was not known yet is remembered."""
        found: list[discord.Message] = []
        complete = False
        async for message in self._post.own_since_trigger():
            if message.id in self.offline:
                continue
            if self._post.answers_trigger(message):
                if message.flags.suppress_notifications:
                    self.offline.append(message.id)
                else:
                    found.append(message)
            elif message.reference is None and found and not complete:
                found.append(message)
            else:
                complete = bool(found)
        return found

    async def take_over(self) -> Sequence[int]:
        """The messages to go on in: a reply being made anew, a half-written one, or a young
        offline message. None of them for a first try."""
        if self._task.replaces:
            return [int(message_id) for message_id in self._task.replaces]
        if self._task.attempt == 1:
            return ()
        if found := await self.answer():
            return [message.id for message in found]
        return [self.offline.pop()] if await self._offline_is_fresh() else ()

    async def point_to(self, answer_id: int) -> None:
        """The offline messages shrink to a pointer; that this works is not worth a failure."""
        place = self._task.place
        link = f"https://discord.com/channels/{place.guild_id or '@me'}/{place.channel_id}"
        page = Page(pointer(f"{link}/{answer_id}"))
        for message_id in self.offline:
            with suppress(Undeliverable, discord.DiscordException, *PASSING):
                await self._post.edit(message_id, page)

    async def _offline_is_fresh(self) -> bool:
        if not self.offline:
            return False
        age_s = self._now() - discord.utils.snowflake_time(self.offline[-1]).timestamp()
        return age_s < _OFFLINE_YOUNG_S and await self._post.is_last(self.offline[-1])
