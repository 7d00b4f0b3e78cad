"""All live conversations: those with an open page or a running reply.

A LiveConversation holds the entries that changed since a page opened it. Deliveries write into
the entries; each page has its own event stream and sends the difference between the entries and
its PageState, no faster than the page reads. So a slow page never delays a reply, and no queue
grows.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Protocol

from understudy.conversation.delivery import ReplyContext
from understudy.conversation.messages import Inbound
from understudy.platforms.web.delivery import WebDelivery
from understudy.platforms.web.live_entries import LiveConversation, LiveReply
from understudy.platforms.web.rendering import Renderer
from understudy.platforms.web.serializers import message_entry, page_id, step_of
from understudy.routing.records import AttemptRecord, ReplyRecord

_STORED_WITHIN_S = 5.0
_STORED = ("done", "partial", "stopped")


class OnChange(Protocol):
    """Receives each change of a reply that this process writes."""

    def __call__(self, channel_id: str, reply: LiveReply, *, ended: bool) -> None: ...


class Change(StrEnum):
    """What was stored of a conversation, other than a reply."""

    LINES = "lines"
    TITLE = "title"
    PROPOSED = "proposed"
    """A note was proposed."""


class LiveConversations:
    """All live conversations. Also an AttemptObserver: the page shows each attempt as it ends."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.renderer = Renderer()
        self._conversations: dict[str, LiveConversation] = {}
        self._writing: dict[str, tuple[LiveConversation, LiveReply]] = {}
        self.closed = False
        self.on_change: OnChange | None = None
        self.on_stored: Callable[[str, Change], None] | None = None
        """Receives (channel id, change) for each change that this process stores."""

    def now(self) -> float:
        return self._clock()

    def close(self) -> None:
        """End every event stream; the pages then reconnect until a server answers."""
        self.closed = True
        for conversation in self._conversations.values():
            conversation.notify()

    def conversation(self, channel_id: str) -> LiveConversation:
        return self._conversations.setdefault(channel_id, LiveConversation())

    @contextmanager
    def subscribe(self, channel_id: str) -> Iterator[tuple[LiveConversation, asyncio.Event]]:
        """The conversation, with an event that is set whenever it changes."""
        conversation, event = self.conversation(channel_id), asyncio.Event()
        conversation.listeners.add(event)
        try:
            yield conversation, event
        finally:
            conversation.listeners.discard(event)
            self.discard_if_idle(channel_id)

    def discard_if_idle(self, channel_id: str) -> None:
        """Free a conversation without page and running reply; the inbox has its messages."""
        conversation = self._conversations.get(channel_id)
        if conversation is not None and not conversation.in_use:
            del self._conversations[channel_id]

    def watched(self) -> tuple[str, ...]:
        """Ids of the conversations that have an open page."""
        return tuple(key for key, one in self._conversations.items() if one.listeners)

    def show_remote(self, channel_id: str, reply_id: str, after: str, text: str) -> None:
        """Show the text so far of a reply that another process writes."""
        conversation = self.conversation(channel_id)
        reply = conversation.replies.get(reply_id)
        if reply is None:
            reply = LiveReply(reply_id, after, (), self._clock(), is_remote=True)
            conversation.replies[reply_id] = reply
            # The message that it answers may have been sent to the other process too.
            conversation.outdated += 1
        reply.text = text
        conversation.mark_changed(reply)

    def end_remote(self, channel_id: str, reply_id: str) -> None:
        """Replace a reply of another process by what is stored of it."""
        conversation = self._conversations.get(channel_id)
        if conversation is not None:
            conversation.replies.pop(reply_id, None)
            conversation.outdated += 1
            conversation.notify()
            self.discard_if_idle(channel_id)

    def change_remotely(self, channel_id: str, change: Change) -> None:
        """Let the pages read again what another process has stored."""
        conversation = self._conversations.get(channel_id)
        if conversation is None:
            return
        if change is Change.TITLE:
            conversation.titled += 1
        elif change is Change.PROPOSED:
            conversation.proposed += 1
        else:
            stored = [m for m in conversation.messages if m["id"] not in conversation.unstored]
            for message in stored:
                conversation.messages.remove(message)
            conversation.removed.clear()
            self._drop_ended(conversation)
            conversation.outdated += 1
        conversation.notify()

    def changed(self, channel_id: str, reply: LiveReply, *, ended: bool = False) -> None:
        if self.on_change is not None:
            self.on_change(channel_id, reply, ended=ended)

    def add_message(self, inbound: Inbound) -> None:
        """Show a person's message on every page that shows this conversation."""
        conversation = self.conversation(inbound.place.channel_id)
        shown = page_id(inbound.message_id)
        conversation.unstored.add(shown)
        if all(entry["id"] != shown for entry in conversation.messages):
            conversation.messages.append(message_entry(inbound, self.renderer))
            conversation.notify()

    def message_stored(self, inbound: Inbound) -> None:
        """A message that is shown is stored."""
        channel_id = inbound.place.channel_id
        if conversation := self._conversations.get(channel_id):
            conversation.unstored.discard(page_id(inbound.message_id))
        self._stored(channel_id)

    def remove_message(self, inbound: Inbound) -> None:
        """Remove a message that could not be stored from every page."""
        conversation = self.conversation(inbound.place.channel_id)
        shown = page_id(inbound.message_id)
        conversation.unstored.discard(shown)
        for entry in conversation.messages:
            if entry["id"] == shown:
                entry["id"], entry["kind"] = "", "gone"
        conversation.removed.append(shown)
        conversation.notify()

    def clear(self, channel_id: str) -> None:
        """Remove all entries of a deleted conversation from every page."""
        if conversation := self._conversations.get(channel_id):
            conversation.messages.clear()
            conversation.removed.clear()
            conversation.replies.clear()
            conversation.cleared += 1
            conversation.notify()
        self._stored(channel_id)

    def title_changed(self, channel_id: str) -> None:
        """Let the pages that show this conversation read the list of conversations again."""
        if conversation := self._conversations.get(channel_id):
            conversation.titled += 1
            conversation.notify()
        self._stored(channel_id, Change.TITLE)

    def note_proposed(self, channel_id: str) -> None:
        """Let the pages that show this conversation ask for the proposed note."""
        if conversation := self._conversations.get(channel_id):
            conversation.proposed += 1
            conversation.notify()
        self._stored(channel_id, Change.PROPOSED)

    def read_again(self, channel_id: str) -> None:
        """Let every page read the stored conversation again: it changed there."""
        if conversation := self._conversations.get(channel_id):
            self._drop_ended(conversation)
            conversation.outdated += 1
            conversation.notify()
        self._stored(channel_id)

    def reset(self, channel_id: str) -> None:
        """Let every page read the stored conversation again: parts of it were erased."""
        if conversation := self._conversations.get(channel_id):
            conversation.messages.clear()
            conversation.removed.clear()
            conversation.replies.clear()
            conversation.outdated += 1
            conversation.notify()
        self._stored(channel_id)

    def _stored(self, channel_id: str, change: Change = Change.LINES) -> None:
        if self.on_stored is not None:
            self.on_stored(channel_id, change)

    def _drop_ended(self, conversation: LiveConversation) -> None:
        """Leave replies to the inbox, except those that are being written."""
        for reply in list(conversation.replies.values()):
            writes_elsewhere = reply.is_remote and reply.state == "writing"
            if reply.id not in self._writing and not writes_elsewhere:
                del conversation.replies[reply.id]

    def reset_of(self, browser: str) -> None:
        """The same for all conversations of one browser."""
        for channel_id in [one for one in self._conversations if one.startswith(f"{browser}/")]:
            self.reset(channel_id)

    def open_delivery(self, task: ReplyContext) -> WebDelivery:
        """The page's `OpenDelivery`."""
        conversation = self.conversation(task.place.channel_id)
        replaces = (*task.replaces, *task.offline_message_ids)
        for replaced in replaces:
            conversation.replies.pop(replaced, None)
        after = page_id(task.trigger_id)
        reply = LiveReply(task.reply_id, after, replaces, self._clock(), name=task.bot_name)
        conversation.replies[reply.id] = reply
        self._writing[reply.id] = (conversation, reply)
        conversation.mark_changed(reply)
        return WebDelivery(self, task.place.channel_id, conversation, reply)

    async def until_stored(self, channel_id: str) -> None:
        """Wait, some seconds at most, until the replies that the pages show as ended are stored."""
        replies = [self._writing[key][1] for key in self.writing_in(channel_id)]
        with suppress(TimeoutError):
            async with asyncio.timeout(_STORED_WITHIN_S):
                for reply in replies:
                    if reply.state != "writing":
                        await reply.ended.wait()

    def writing_in(self, channel_id: str) -> tuple[str, ...]:
        """Ids of the replies that are being written in this conversation."""
        conversation = self._conversations.get(channel_id)
        replies = conversation.replies if conversation is not None else ()
        return tuple(reply for reply in replies if reply in self._writing)

    def end_reply(self, channel_id: str, reply_id: str, *, withdrawn: bool) -> None:
        _, reply = self._writing.pop(reply_id, (None, None))
        if reply is not None:
            reply.ended.set()
        conversation = self._conversations.get(channel_id)
        replaced = reply is not None and reply.replaces and reply.state in _STORED
        if (withdrawn or replaced) and reply and conversation:
            # The inbox has what remains: all versions of the reply, or a message without one.
            conversation.replies.pop(reply.id, None)
            conversation.outdated += 1
            conversation.notify()
        self.discard_if_idle(channel_id)

    def attempt_ended(self, record: AttemptRecord) -> None:
        conversation, reply = self._writing.get(record.request_id, (None, None))
        step = step_of(record)
        if conversation and reply and step:
            reply.steps = [*reply.steps, step]
            conversation.mark_changed(reply)

    def reply_ended(self, record: ReplyRecord) -> None:
        """Does nothing: the delivery receives the finished reply."""
