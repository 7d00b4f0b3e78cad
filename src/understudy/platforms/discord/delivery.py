"""Delivers one reply on Discord: streamed by edits from one writer task, without duplicates."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from understudy.config.settings import Discord
from understudy.conversation.delivery import Delivery, OfflineNotice, Reply, ReplyContext
from understudy.errors import Undeliverable
from understudy.platforms.discord.buttons import still_running
from understudy.platforms.discord.mentions import with_mentions
from understudy.platforms.discord.rendering import CUT_OFF, Page, finished, in_progress, with_emoji
from understudy.platforms.discord.resume import ResumedReply
from understudy.platforms.discord.sender import PASSING, Connected, Sender, retry_discord
from understudy.platforms.discord.typing_indicator import TypingIndicator
from understudy.routing.records import OfflineReason

_log = structlog.get_logger()

Ended = Callable[[OfflineReason | None], None]
"""Called when a reply ends; None for an answer."""

_LATE_S = 30.0
"""A reply that begins after this is a late answer."""
_GRACE_S = 3.0
"""A cancelled edit may still be applied and delays the next ones for long, so a writer gets this
much time to finish its last call."""


class Deliveries:
    """Opens deliveries, and counts the active writers per channel: they share Discord's rate limit
    for edits."""

    def __init__(
        self,
        connected: Connected,
        settings: Callable[[], Discord],
        now: Callable[[], float],
        ended: Ended = lambda _: None,
    ) -> None:
        self._connected = connected
        self._settings = settings
        self._now = now
        self._ended = ended
        self._writers: Counter[str] = Counter()

    def open(self, context: ReplyContext) -> Delivery:
        sender = Sender(self._connected, context)
        resumed = ResumedReply(sender, context, self._now)
        return DiscordDelivery(
            sender, resumed, context, self._settings(), self._writers, self._ended
        )


class DiscordDelivery:
    def __init__(
        self,
        sender: Sender,
        resumed: ResumedReply,
        context: ReplyContext,
        settings: Discord,
        writers: Counter[str],
        ended: Ended,
    ) -> None:
        self._sender = sender
        self._resumed = resumed
        self._ended = ended
        self._context = context
        self._settings = settings
        self._writers = writers
        self._sent: list[int] = []
        self._contents: list[Page | None] = []
        """The content of each sent message; None when unknown."""
        self._visible = False
        self._prepared = False
        self._text = ""
        self._changed = asyncio.Event()
        self._enough = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._typing = TypingIndicator(sender.type)
        if not self._resumed.offline:
            self._typing.start()

    async def earlier(self) -> tuple[str, ...]:
        """A reply that still has its Stop button is unfinished and is generated again."""
        found = await self._resumed.find()
        if not found or not self._settings.controls or any(still_running(m) for m in found):
            return ()
        return tuple(str(message.id) for message in found)

    def shown(self) -> bool:
        return self._visible

    async def write(self, text: str) -> None:
        if self._writer is not None and self._writer.done():
            self._writer.result()
        self._text = text
        if not self._settings.stream_edits:
            return
        if self._writer is None:
            self._writers[self._context.place.channel_id] += 1
            self._writer = asyncio.create_task(self._write_pages())
        self._changed.set()
        if len(text) >= self._settings.first_edit_chars:
            self._enough.set()

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        self._ended(None)
        await self._stop_writing()
        notes = (CUT_OFF, *reply.notes) if reply.partial else reply.notes
        text = await self._marked_up(reply.text)
        pages = finished(text, notes, self._settings.max_parts, controls=self._settings.controls)
        await retry_discord(lambda: self._show(pages))
        for surplus in self._sent[len(pages) :]:
            await self._sender.delete(surplus)
        if self._sent:
            await self._resumed.point_to(self._sent[0])
        return tuple(str(message_id) for message_id in self._sent[: len(pages)])

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        self._ended(notice.reason)
        await self._stop_writing()
        if self._sent:
            return await self._replace_with(notice.text)
        if self._context.attempt > 1:
            await self._resumed.find()
        known = self._resumed.offline
        if known or not notice.text:
            return tuple(str(message_id) for message_id in known)
        message = await retry_discord(lambda: self._sender.send_offline(notice.text))
        return (str(message.id),)

    async def withdraw(self) -> None:
        with suppress(Undeliverable):
            await self._stop_writing()
        for message_id in self._sent if self._visible else ():
            await self._sender.delete(message_id)
        if self._context.attempt > 1 and not self._visible:
            # A process that ended may have left a part of the reply.
            for message in await self._resumed.find():
                if still_running(message):
                    await self._sender.delete(message.id)

    async def aclose(self) -> None:
        await self._typing.stop()
        writer = self._writer
        if writer is None:
            return
        self._stopping.set()
        self._enough.set()
        self._changed.set()
        _, unfinished = await asyncio.wait({writer}, timeout=_GRACE_S)
        for task in unfinished:
            task.cancel()
            await asyncio.wait({task})
        self._release_writer()

    async def _replace_with(self, text: str) -> tuple[str, ...]:
        first, *others = self._sent
        for message_id in others if text else self._sent:
            await self._sender.delete(message_id)
        if not text:
            return ()
        await retry_discord(lambda: self._sender.edit(first, Page(text)))
        return (str(first),)

    async def _write_pages(self) -> None:
        """Show the latest text; a failed edit is superseded by the next one or by `finish`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), self._settings.first_edit_seconds)
        while not self._stopping.is_set():
            self._changed.clear()
            text = await self._marked_up(self._text)
            pages = in_progress(text, self._settings.max_parts, controls=self._settings.controls)
            try:
                await self._show(pages)
            except PASSING as error:
                _log.info("discord.edit_skipped", error=type(error).__name__)
            await self._wait_interval()
            await self._changed.wait()

    async def _marked_up(self, text: str) -> str:
        """The text with the emoji of the server and its mentions."""
        named = with_mentions(text, self._context.people(), self._settings.allow_mentions)
        return with_emoji(named, await self._sender.emoji())

    async def _wait_interval(self) -> None:
        writers = self._writers[self._context.place.channel_id]
        interval_s = self._settings.edit_interval_seconds * max(1, writers)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), interval_s)

    async def _stop_writing(self) -> None:
        """Wait for the writer's last call; raises the error that ended the writer."""
        writer = self._writer
        if writer is None:
            return
        self._stopping.set()
        self._enough.set()
        self._changed.set()
        await asyncio.wait({writer})
        self._release_writer()
        writer.result()

    def _release_writer(self) -> None:
        if self._writer is None:
            return
        self._writers[self._context.place.channel_id] -= 1
        if not self._writer.cancelled():
            # Retrieved, so that asyncio does not report it as never retrieved.
            self._writer.exception()
        self._writer = None

    async def _show(self, pages: Sequence[Page]) -> None:
        """Send or edit until the channel shows `pages`, with as few calls as possible."""
        if not pages:
            return
        await self._prepare()
        for number, page in enumerate(pages):
            if number < len(self._sent):
                await self._edit(number, page)
            else:
                await self._send(page)
            self._visible = True
        await self._typing.stop()

    async def _edit(self, number: int, page: Page) -> None:
        if self._contents[number] == page:
            return
        await self._sender.edit(self._sent[number], page)
        self._contents[number] = page

    async def _send(self, page: Page) -> None:
        late = bool(self._resumed.offline)
        # Those who waited are mentioned, also where the offline message was sent to others only.
        mention = late or self._context.waited_s >= _LATE_S or self._settings.mention_author
        notified = [
            user for user in self._settings.allow_mentions if user in self._context.people()
        ]
        message = await self._sender.send(
            page, len(self._sent), mention=mention, late=late, notified=notified
        )
        self._sent.append(message.id)
        # For a known nonce Discord returns the message of an earlier try, with its text.
        same = message.content.strip() == page.content.strip()
        self._contents.append(page if same else None)
        if not same:
            await self._edit(len(self._sent) - 1, page)

    async def _prepare(self) -> None:
        if not self._prepared:
            self._sent = list(await self._resumed.messages_to_continue())
            self._contents = [None] * len(self._sent)
            self._prepared = True
