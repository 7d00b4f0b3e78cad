"""Finds messages that earlier tries of a reply left in its channel, for the new try to reuse."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import discord

from understudy.conversation.delivery import ReplyContext
from understudy.errors import Undeliverable
from understudy.platforms.discord.rendering import Page, pointer
from understudy.platforms.discord.sender import PASSING, Sender

_OFFLINE_YOUNG_S = 120.0
"""Up to this age an offline message is edited into the answer; later it becomes a link to it."""


class ResumedReply:
    """The offline messages of one batch, and unfinished replies to it."""

    def __init__(self, sender: Sender, context: ReplyContext, now: Callable[[], float]) -> None:
        self._sender = sender
        self._context = context
        self._now = now
        self.offline = [int(message_id) for message_id in context.offline_message_ids]
        """Ids of offline messages, which the answer replaces."""

    async def find(self) -> list[discord.Message]:
        """The bot's reply to the trigger and the parts that follow it. Offline messages are silent
        ones, which are recorded."""
        found: list[discord.Message] = []
        complete = False
        async for message in self._sender.own_since_trigger():
            if message.id in self.offline:
                continue
            if self._sender.answers_trigger(message):
                if message.flags.suppress_notifications:
                    self.offline.append(message.id)
                else:
                    found.append(message)
            elif message.reference is None and found and not complete:
                found.append(message)
            else:
                complete = bool(found)
        return found

    async def messages_to_continue(self) -> Sequence[int]:
        """The messages to edit: of the reply being regenerated, an unfinished reply, or a recent
        offline message. Empty for a first try."""
        if self._context.replaces:
            return [int(message_id) for message_id in self._context.replaces]
        if self._context.attempt == 1:
            return ()
        if found := await self.find():
            return [message.id for message in found]
        return [self.offline.pop()] if await self._offline_is_fresh() else ()

    async def point_to(self, answer_id: int) -> None:
        """Replace the offline messages by a link to the answer; errors are ignored."""
        place = self._context.place
        link = f"https://discord.com/channels/{place.guild_id or '@me'}/{place.channel_id}"
        page = Page(pointer(f"{link}/{answer_id}"))
        for message_id in self.offline:
            with suppress(Undeliverable, discord.DiscordException, *PASSING):
                await self._sender.edit(message_id, page)

    async def _offline_is_fresh(self) -> bool:
        if not self.offline:
            return False
        age_s = self._now() - discord.utils.snowflake_time(self.offline[-1]).timestamp()
        return age_s < _OFFLINE_YOUNG_S and await self._sender.is_last(self.offline[-1])
