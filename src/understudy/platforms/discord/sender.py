"""Sending, editing and deleting the messages of one reply: nonces, mentions, and what each
refusal of Discord means."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import aiohttp
import discord
import structlog

from understudy.conversation.delivery import ReplyContext
from understudy.errors import Undeliverable
from understudy.platforms.discord.buttons import view_of
from understudy.platforms.discord.rendering import FILE_NAME, Page
from understudy.retry import retry

T = TypeVar("T")
Connected = Callable[[], Awaitable[discord.Client]]
"""The client once it may be used; it changes when the connection is made anew."""

_log = structlog.get_logger()

_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between tries of a call that has to succeed. discord.py itself does not retry a 503 or a lost
connection."""
PASSING = (aiohttp.ClientError, ConnectionError, TimeoutError, discord.DiscordServerError)
_LOOK_BACK = 200


class Sender:
    """Writes into the channel of one reply. Raises Undeliverable when Discord refuses for good;
    other errors are passing trouble."""

    def __init__(self, connected: Connected, task: ReplyContext) -> None:
        self._connected = connected
        self._task = task

    async def send(
        self, page: Page, part: int, *, mention: bool, late: bool = False
    ) -> discord.Message:
        """A new message. The first part replies to the trigger, the others follow it; those of a
        `late` answer are others than those of a try that had shown something before it failed.

        Discord answers a nonce it remembers with the message it already has: then the text in
        the returned message is the old one.
        """
        channel = await self._channel()
        if not await self._task.may_send():
            raise Undeliverable("another process answers this now")
        message = await self._refusable(
            channel.send(
                page.content,
                nonce=f"{self._task.nonce}-{'late-' if late else ''}{part}",
                allowed_mentions=_mentions(author=mention),
                files=_files(page),
                # discord.py takes None for both, though its overloads do not say so.
                view=self._view(page),  # type: ignore[arg-type]
                reference=self._trigger() if part == 0 else None,  # type: ignore[arg-type]
            )
        )
        _log.debug("discord.sent", reply=self._task.reply_id, message=str(message.id), part=part)
        return message

    async def send_offline(self, text: str) -> discord.Message:
        """Silent, which also tells it from an answer when the bot looks back after a crash."""
        channel = await self._channel()
        if not await self._task.may_send():
            raise Undeliverable("another process answers this now")
        return await self._refusable(
            channel.send(
                text,
                nonce=f"{self._task.nonce}-off",
                allowed_mentions=_mentions(author=False),
                reference=self._trigger(),
                silent=True,
            )
        )

    async def edit(self, message_id: int, page: Page) -> None:
        message = (await self._channel()).get_partial_message(message_id)
        await self._refusable(
            message.edit(
                content=page.content,
                allowed_mentions=_mentions(author=False),
                view=self._view(page),
                attachments=_files(page),
            )
        )

    async def delete(self, message_id: int) -> None:
        """Gone already is as good; passing trouble is waited out."""
        message = (await self._channel()).get_partial_message(message_id)
        with suppress(discord.NotFound):
            await retry_discord(message.delete)

    async def type(self) -> None:
        await (await self._channel()).typing()

    async def is_last(self, message_id: int) -> bool:
        """False where that cannot be read."""
        channel = await self._channel()
        try:
            newest = [message.id async for message in channel.history(limit=1)]
        except (discord.Forbidden, discord.NotFound):
            return False
        return newest == [message_id]

    async def own_since_trigger(self) -> AsyncIterator[discord.Message]:
        """The bot's messages after the trigger, oldest first."""
        client = await self._connected()
        me = client.user.id if client.user else 0
        after = discord.Object(int(self._task.trigger_id))
        channel = await self._channel()
        try:
            async for message in channel.history(limit=_LOOK_BACK, after=after, oldest_first=True):
                if message.author.id == me:
                    yield message
        except (discord.Forbidden, discord.NotFound):
            return

    def answers_trigger(self, message: discord.Message) -> bool:
        reference = message.reference
        return reference is not None and reference.message_id == int(self._task.trigger_id)

    async def _channel(self) -> discord.PartialMessageable:
        place = self._task.place
        client = await self._connected()
        guild_id = int(place.guild_id) if place.guild_id else None
        return client.get_partial_messageable(int(place.channel_id), guild_id=guild_id)

    def _view(self, page: Page) -> discord.ui.View | None:
        return view_of(page.controls, self._task.author.id, self._task.reply_id)

    def _trigger(self) -> discord.MessageReference:
        place = self._task.place
        return discord.MessageReference(
            message_id=int(self._task.trigger_id),
            channel_id=int(place.channel_id),
            guild_id=int(place.guild_id) if place.guild_id else None,
            fail_if_not_exists=False,
        )

    async def _refusable(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except discord.HTTPException as error:
            if error.status not in (400, 403, 404):
                raise
            _log.warning(
                "discord.undeliverable",
                channel=self._task.place.channel_id,
                status=error.status,
                code=error.code,
            )
            raise Undeliverable(f"Discord answered {error.status}/{error.code}") from error


async def retry_discord(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call that has to succeed: temporary failures are retried, for about 15 s in all."""
    return await retry(call, on=PASSING, pauses_s=_PAUSES_S, report=_report_retry)


def _report_retry(error: Exception, pause_s: float) -> None:
    _log.info("discord.retry", error=type(error).__name__, pause_s=pause_s)


def _mentions(*, author: bool) -> discord.AllowedMentions:
    """Nobody, whatever the model wrote, but where wanted the author of the trigger."""
    return discord.AllowedMentions(everyone=False, roles=False, users=False, replied_user=author)


def _files(page: Page) -> list[discord.File]:
    if page.file is None:
        return []
    return [discord.File(io.BytesIO(page.file.encode()), FILE_NAME)]
