"""Sends, edits and deletes the messages of one reply: nonces, mentions, and Discord's errors."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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
"""The client once it is logged in; another one after a reconnect."""

_log = structlog.get_logger()

_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between tries of a required call. discord.py itself does not retry a 503 or a lost connection."""
PASSING = (aiohttp.ClientError, ConnectionError, TimeoutError, discord.DiscordServerError)
UNREADABLE = (discord.DiscordException, RuntimeError, *PASSING)
"""What reading may raise; a client that is being closed raises RuntimeError."""
_HISTORY_LIMIT = 200
_REPLY_REFUSED = 160002
"""Discord's code for a reply without the permission Read Message History."""
_LIMIT_S = 15.0


class Sender:
    """Writes to the channel of one reply. Raises Undeliverable when Discord refuses for good; other
    errors are temporary."""

    def __init__(self, connected: Connected, context: ReplyContext) -> None:
        self._connected = connected
        self._context = context
        self._may_refer = True

    async def send(
        self,
        page: Page,
        part: int,
        *,
        mention: bool,
        late: bool = False,
        notified: Sequence[str] = (),
    ) -> discord.Message:
        """Send a new message. The first part references the trigger. A `late` answer has its own
        nonces, different from those of the failed try. `notified`: the ids of people whom a mention
        in the text notifies.

        For a nonce it has seen, Discord returns the existing message with its old text.
        """
        channel = await self._channel()
        if not await self._context.may_send():
            raise Undeliverable("another process answers this now")
        message = await self._send_referring(
            lambda reference: channel.send(
                page.content,
                nonce=f"{self._context.nonce}-{'late-' if late else ''}{part}",
                allowed_mentions=_mentions(notified, author=mention),
                files=files_of(page),
                # discord.py takes None for both, though its overloads do not say so.
                view=self._view(page),  # type: ignore[arg-type]
                reference=reference,  # type: ignore[arg-type]
            ),
            part,
        )
        _log.debug("discord.sent", reply=self._context.reply_id, message=str(message.id), part=part)
        return message

    async def send_offline(self, text: str) -> discord.Message:
        """Send silently, which also distinguishes it from an answer after a crash."""
        channel = await self._channel()
        if not await self._context.may_send():
            raise Undeliverable("another process answers this now")
        return await self._send_referring(
            lambda reference: channel.send(
                text,
                nonce=f"{self._context.nonce}-off",
                allowed_mentions=_mentions(author=False),
                reference=reference,  # type: ignore[arg-type]
                silent=True,
            )
        )

    async def _send_referring(
        self, send: Callable[[discord.MessageReference | None], Awaitable[T]], part: int = 0
    ) -> T:
        """Send the first part as a reply to the trigger, or without a reference where Discord
        refuses that: it needs Read Message History, and sending does not."""
        if part == 0 and self._may_refer:
            try:
                return await send(self._trigger())
            except discord.HTTPException as error:
                if error.status != 403 and error.code != _REPLY_REFUSED:
                    return await self._translate_refusal(_raising(error))
                self._may_refer = False
                _log.warning(
                    "discord.missing_permission",
                    channel=self._context.place.channel_id,
                    permission="Read Message History",
                )
        return await self._translate_refusal(send(None))

    async def emoji(self) -> Mapping[str, str]:
        """The server's own emoji: name → how it is written in a message."""
        guild_id = self._context.place.guild_id
        guild = (await self._connected()).get_guild(int(guild_id)) if guild_id else None
        usable = (emoji for emoji in guild.emojis if emoji.is_usable()) if guild else ()
        return {emoji.name: str(emoji) for emoji in usable}

    async def edit(self, message_id: int, page: Page) -> None:
        message = (await self._channel()).get_partial_message(message_id)
        await self._translate_refusal(
            message.edit(
                content=page.content,
                allowed_mentions=_mentions(author=False),
                view=self._view(page),
                attachments=files_of(page),
            )
        )

    async def delete(self, message_id: int) -> None:
        """Delete; a missing message is no error, temporary errors are retried."""
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
        after = discord.Object(int(self._context.trigger_id))
        channel = await self._channel()
        try:
            async for message in channel.history(
                limit=_HISTORY_LIMIT, after=after, oldest_first=True
            ):
                if message.author.id == me:
                    yield message
        except (discord.Forbidden, discord.NotFound):
            return

    def answers_trigger(self, message: discord.Message) -> bool:
        """The message that started a thread is outside it: a reply in there cannot refer to it."""
        reference = message.reference
        if reference is None:
            return self._context.trigger_id == self._context.place.channel_id
        return reference.message_id == int(self._context.trigger_id)

    async def _channel(self) -> discord.PartialMessageable:
        place = self._context.place
        client = await self._connected()
        guild_id = int(place.guild_id) if place.guild_id else None
        return client.get_partial_messageable(int(place.channel_id), guild_id=guild_id)

    def _view(self, page: Page) -> discord.ui.View | None:
        return view_of(page.controls, self._context.author.id, self._context.reply_id)

    def _trigger(self) -> discord.MessageReference:
        place = self._context.place
        return discord.MessageReference(
            message_id=int(self._context.trigger_id),
            channel_id=int(place.channel_id),
            guild_id=int(place.guild_id) if place.guild_id else None,
            fail_if_not_exists=False,
        )

    async def _translate_refusal(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except discord.HTTPException as error:
            if error.status not in (400, 403, 404):
                raise
            _log.warning(
                "discord.undeliverable",
                channel=self._context.place.channel_id,
                status=error.status,
                code=error.code,
            )
            raise Undeliverable(f"Discord answered {error.status}/{error.code}") from error


async def retry_discord(call: Callable[[], Awaitable[T]]) -> T:
    """Make a required call: temporary failures are retried for 15 s in all.

    discord.py itself repeats a call that gets 500 or 502 for 25 s, and keeps the channel's other
    calls waiting meanwhile.
    """
    async with asyncio.timeout(_LIMIT_S):
        return await retry(call, on=PASSING, pauses_s=_PAUSES_S, report=_report_retry)


async def _raising(error: Exception) -> T:
    raise error


def _report_retry(error: Exception, pause_s: float) -> None:
    _log.info("discord.retry", error=type(error).__name__, pause_s=pause_s)


def _mentions(users: Sequence[str] = (), *, author: bool) -> discord.AllowedMentions:
    """No mentions, except of these users and optionally of the trigger's author."""
    return discord.AllowedMentions(
        everyone=False,
        roles=False,
        users=[discord.Object(int(user)) for user in users if user.isdigit()] or False,
        replied_user=author,
    )


def files_of(page: Page) -> list[discord.File]:
    if page.file is None:
        return []
    return [discord.File(io.BytesIO(page.file.encode()), FILE_NAME)]
