"""Shows one reply on Discord: streamed by edits, from one writer, never twice."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from understudy.config.settings import Discord
from understudy.conversation.delivery import Delivery, OfflineNotice, Reply, ReplyContext
from understudy.errors import Undeliverable
from understudy.platforms.discord.buttons import still_running
from understudy.platforms.discord.rendering import CUT_OFF, Page, finished, in_progress
from understudy.platforms.discord.resume import ResumedReply
from understudy.platforms.discord.sender import PASSING, Connected, Sender, retry_discord
from understudy.platforms.discord.typing_indicator import TypingIndicator
from understudy.routing.records import OfflineReason

_log = structlog.get_logger()

Ended = Callable[[OfflineReason | None], None]
"""Told of each reply that ends: None when it is an answer."""

_GRACE_S = 3.0
"""An edit that is cancelled may still be applied and holds up the next ones for long, so a writer
gets this much time to come back from its last call."""


class Deliveries:
    """Opens deliveries, and knows how many replies are being written in each channel: they share
    Discord's limit for edits there."""

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

    def open(self, task: ReplyContext) -> Delivery:
        post = Sender(self._connected, task)
        earlier = ResumedReply(post, task, self._now)
        return DiscordDelivery(post, earlier, task, self._settings(), self._writers, self._ended)


class DiscordDelivery:
    def __init__(
        self,
        post: Sender,
        earlier: ResumedReply,
        task: ReplyContext,
        settings: Discord,
        writers: Counter[str],
        ended: Ended,
    ) -> None:
        self._post = post
        self._earlier = earlier
        self._ended = ended
        self._task = task
        self._settings = settings
        self._writers = writers
        self._sent: list[int] = []
        self._showing: list[Page | None] = []
        """What each sent message shows; None where that is not known."""
        self._visible = False
        self._prepared = False
        self._text = ""
        self._changed = asyncio.Event()
        self._enough = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._typing = TypingIndicator(post.type)
        if not self._earlier.offline:
            self._typing.start()

    async def earlier(self) -> tuple[str, ...]:
        """A reply that still has its Stop button was left half-written: it is written anew."""
        found = await self._earlier.answer()
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
            self._writers[self._task.place.channel_id] += 1
            self._writer = asyncio.create_task(self._keep_writing())
        self._changed.set()
        if len(text) >= self._settings.first_edit_chars:
            self._enough.set()

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        self._ended(None)
        await self._end_writing()
        notes = (CUT_OFF, *reply.notes) if reply.partial else reply.notes
        pages = finished(
            reply.text, notes, self._settings.max_parts, controls=self._settings.controls
        )
        await retry_discord(lambda: self._show(pages))
        for surplus in self._sent[len(pages) :]:
            await self._post.delete(surplus)
        if self._sent:
            await self._earlier.point_to(self._sent[0])
        return tuple(str(message_id) for message_id in self._sent[: len(pages)])

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        self._ended(notice.reason)
        await self._end_writing()
        if self._sent:
            return await self._replace_by(notice.text)
        if self._task.attempt > 1:
            await self._earlier.answer()
        known = self._earlier.offline
        if known or not notice.text:
            return tuple(str(message_id) for message_id in known)
        message = await retry_discord(lambda: self._post.send_offline(notice.text))
        return (str(message.id),)

    async def withdraw(self) -> None:
        with suppress(Undeliverable):
            await self._end_writing()
        for message_id in self._sent if self._visible else ():
            await self._post.delete(message_id)

    async def aclose(self) -> None:
        await self._typing.stop()
        writer = self._writer
        if writer is None:
            return
        self._over.set()
        self._enough.set()
        self._changed.set()
        _, unfinished = await asyncio.wait({writer}, timeout=_GRACE_S)
        for task in unfinished:
            task.cancel()
            await asyncio.wait({task})
        self._forget_writer()

    async def _replace_by(self, text: str) -> tuple[str, ...]:
        first, *others = self._sent
        for message_id in others if text else self._sent:
            await self._post.delete(message_id)
        if not text:
            return ()
        await retry_discord(lambda: self._post.edit(first, Page(text)))
        return (str(first),)

    async def _keep_writing(self) -> None:
        """Latest text wins; trouble on the way is left to the next edit or to the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), self._settings.first_edit_seconds)
        while not self._over.is_set():
            self._changed.clear()
            pages = in_progress(
                self._text, self._settings.max_parts, controls=self._settings.controls
            )
            try:
                await self._show(pages)
            except PASSING as error:
                _log.info("discord.edit_skipped", error=type(error).__name__)
            await self._pause()
            await self._changed.wait()

    async def _pause(self) -> None:
        writers = self._writers[self._task.place.channel_id]
        interval_s = self._settings.edit_interval_seconds * max(1, writers)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), interval_s)

    async def _end_writing(self) -> None:
        """Lets the writer come back from its last call; raises what ended it before."""
        writer = self._writer
        if writer is None:
            return
        self._over.set()
        self._enough.set()
        self._changed.set()
        await asyncio.wait({writer})
        self._forget_writer()
        writer.result()

    def _forget_writer(self) -> None:
        if self._writer is None:
            return
        self._writers[self._task.place.channel_id] -= 1
        if not self._writer.cancelled():
            # Looked at, so that asyncio does not complain of it: whoever needs it has it.
            self._writer.exception()
        self._writer = None

    async def _show(self, pages: Sequence[Page]) -> None:
        """Make the channel show `pages`, with as few calls as that takes."""
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
        if self._showing[number] == page:
            return
        await self._post.edit(self._sent[number], page)
        self._showing[number] = page

    async def _send(self, page: Page) -> None:
        late = bool(self._earlier.offline)
        message = await self._post.send(
            page, len(self._sent), mention=late or self._settings.mention_author, late=late
        )
        self._sent.append(message.id)
        # A remembered nonce brings back a message of an earlier try, with that one's text.
        same = message.content.strip() == page.content.strip()
        self._showing.append(page if same else None)
        if not same:
            await self._edit(len(self._sent) - 1, page)

    async def _prepare(self) -> None:
        if not self._prepared:
            self._sent = list(await self._earlier.take_over())
            self._showing = [None] * len(self._sent)
            self._prepared = True
