"""The live side of web conversations: open pages, running replies, and the events between them.

A LiveConversation holds the entries that changed since a page opened it. Deliveries write into
the entries; each page has its own event stream and sends the difference between the entries and
its PageState, no faster than the page reads. So a slow page never delays a reply, and no queue
grows.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from understudy.conversation.delivery import OfflineNotice, Reply, ReplyContext
from understudy.conversation.messages import Inbound
from understudy.errors import StorageError
from understudy.platforms.web.rendering import Blocks, Renderer, Source
from understudy.platforms.web.serializers import Json, message_entry, page_id, step_of, steps_of
from understudy.routing.records import AttemptRecord, ReplyRecord

_THOUGHTS_SHOWN = 2_000
"""Characters of the reasoning that are sent while it is being written."""
_MAX_THOUGHTS = 50_000

ReplyState = Literal["writing", "done", "partial", "stopped", "offline"]


@dataclass(slots=True)
class LiveReply:
    """A reply as the page shows it. `revision` is the conversation's tick of its last change."""

    id: str
    after: str
    replaces: tuple[str, ...]
    at: float
    state: ReplyState = "writing"
    text: str = ""
    steps: list[Json] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    retry_at: float | None = None
    total_ms: int = 0
    thoughts: str = ""
    thought_from: float = 0.0
    """Wall clock of the first reasoning."""
    thought_s: float | None = None
    """How long the model reasoned; None while it does."""
    revision: int = 0
    _rendered: tuple[int, Blocks] = (-1, ())

    def source(self) -> Source:
        return Source(self.text, unfinished=self.state == "writing")

    def blocks(self, renderer: Renderer) -> tuple[int, Blocks]:
        """The latest rendered blocks, with the revision they belong to."""
        if self._rendered[0] != self.revision:
            rendered = renderer.blocks(self.source())
            if rendered is not None:
                self._rendered = (self.revision, rendered)
        return self._rendered

    def entry(self) -> Json:
        """Everything except the blocks, which are sent as differences."""
        writing = self.state == "writing"
        return {
            "id": self.id,
            "kind": "reply",
            "after": self.after,
            "replaces": list(self.replaces),
            "state": self.state,
            "text": "" if writing else self.text,
            "steps": self.steps,
            "notes": list(self.notes),
            "retry_at": self.retry_at,
            "at": self.at,
            "total_ms": self.total_ms,
            "thoughts": self.thoughts[-_THOUGHTS_SHOWN:]
            if self.state == "writing"
            else self.thoughts,
            "thought_s": self.thought_s,
        }


@dataclass(slots=True)
class LiveConversation:
    """One conversation that has an open page or a running reply."""

    messages: list[Json] = field(default_factory=list)
    """Messages of the person since the conversation became live."""
    replies: dict[str, LiveReply] = field(default_factory=dict)
    listeners: set[asyncio.Event] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    """Ids of entries that were removed."""
    cleared: int = 0
    """How often the conversation was deleted while it was live."""
    outdated: int = 0
    """How often the pages had to read the stored conversation again."""
    tick: int = 0

    def mark_changed(self, reply: LiveReply) -> None:
        self.tick += 1
        reply.revision = self.tick
        self.notify()

    def notify(self) -> None:
        for listener in self.listeners:
            listener.set()

    @property
    def in_use(self) -> bool:
        writing = any(reply.state == "writing" for reply in self.replies.values())
        return bool(self.listeners) or writing


class OnChange(Protocol):
    """Receives each change of a reply that this process writes."""

    def __call__(self, channel_id: str, reply: LiveReply, *, ended: bool) -> None: ...


class LiveConversations:
    """All live conversations. Also an AttemptObserver: the page shows each attempt as it ends."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.renderer = Renderer()
        self._conversations: dict[str, LiveConversation] = {}
        self._writing: dict[str, tuple[LiveConversation, LiveReply]] = {}
        self.closed = False
        self.on_change: OnChange | None = None

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
            reply = conversation.replies[reply_id] = LiveReply(reply_id, after, (), self._clock())
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

    def changed(self, channel_id: str, reply: LiveReply, *, ended: bool = False) -> None:
        if self.on_change is not None:
            self.on_change(channel_id, reply, ended=ended)

    def add_message(self, inbound: Inbound) -> None:
        """Show a person's message on every page that shows this conversation."""
        conversation = self.conversation(inbound.place.channel_id)
        shown = page_id(inbound.message_id)
        if all(entry["id"] != shown for entry in conversation.messages):
            conversation.messages.append(message_entry(inbound, self.renderer))
            conversation.notify()

    def remove_message(self, inbound: Inbound) -> None:
        """Remove a message that could not be stored from every page."""
        conversation = self.conversation(inbound.place.channel_id)
        shown = page_id(inbound.message_id)
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

    def reset(self, channel_id: str) -> None:
        """Let every page read the stored conversation again: parts of it were erased."""
        if conversation := self._conversations.get(channel_id):
            conversation.messages.clear()
            conversation.removed.clear()
            conversation.replies.clear()
            conversation.outdated += 1
            conversation.notify()

    def open_delivery(self, task: ReplyContext) -> "WebDelivery":
        """The page's `OpenDelivery`."""
        conversation = self.conversation(task.place.channel_id)
        replaces = (*task.replaces, *task.offline_message_ids)
        for replaced in replaces:
            conversation.replies.pop(replaced, None)
        after = page_id(task.trigger_id)
        reply = LiveReply(task.reply_id, after, replaces, self._clock())
        conversation.replies[reply.id] = reply
        self._writing[reply.id] = (conversation, reply)
        conversation.mark_changed(reply)
        return WebDelivery(self, task.place.channel_id, conversation, reply)

    def writing_in(self, channel_id: str) -> tuple[str, ...]:
        """Ids of the replies that are being written in this conversation."""
        conversation = self._conversations.get(channel_id)
        replies = conversation.replies if conversation is not None else ()
        return tuple(reply for reply in replies if reply in self._writing)

    def end_reply(self, channel_id: str, reply_id: str, *, withdrawn: bool) -> None:
        _, reply = self._writing.pop(reply_id, (None, None))
        conversation = self._conversations.get(channel_id)
        if withdrawn and reply and conversation:
            # The inbox has what remains: the earlier version, or a message without a reply.
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


class WebDelivery:
    """Writes one reply into its live conversation."""

    def __init__(
        self,
        live: LiveConversations,
        channel_id: str,
        conversation: LiveConversation,
        reply: LiveReply,
    ) -> None:
        self._live = live
        self._channel_id = channel_id
        self._conversation = conversation
        self._reply = reply
        self._withdrawn = False

    async def earlier(self) -> tuple[str, ...]:
        """Always empty: what a page showed ends with the page's event stream."""
        return ()

    def shown(self) -> bool:
        return bool(self._reply.text)

    def think(self, text: str) -> None:
        live = self._reply
        if not live.thoughts:
            live.thought_from = self._live.now()
        live.thoughts, live.thought_s = text[:_MAX_THOUGHTS], None
        self._mark_changed()

    async def write(self, text: str) -> None:
        live = self._reply
        if live.thoughts and live.thought_s is None:
            live.thought_s = self._live.now() - live.thought_from
        live.text = text
        self._mark_changed()

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        live = self._reply
        live.text, live.notes = reply.text, reply.notes
        live.steps, live.total_ms = steps_of(reply.record.attempts), reply.record.t_total_ms
        live.state = "stopped" if reply.stopped else "partial" if reply.partial else "done"
        self._mark_changed()
        return (live.id,)

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        live = self._reply
        if not notice.text:
            return ()
        live.text, live.retry_at, live.state = notice.text, notice.retry_at, "offline"
        live.steps = steps_of(notice.record.attempts)
        self._mark_changed()
        return (live.id,)

    async def withdraw(self) -> None:
        self._withdrawn = True
        self._conversation.replies.pop(self._reply.id, None)
        self._conversation.removed.append(self._reply.id)
        self._conversation.notify()

    async def aclose(self) -> None:
        if self._reply.state == "writing" and self._reply.id in self._conversation.replies:
            await self.withdraw()
        self._live.end_reply(self._channel_id, self._reply.id, withdrawn=self._withdrawn)
        self._live.changed(self._channel_id, self._reply, ended=True)

    def _mark_changed(self) -> None:
        self._conversation.mark_changed(self._reply)
        self._live.changed(self._channel_id, self._reply)


FRAME_S = 0.04
"""The shortest time between two updates of one page."""
PING_S = 15.0

PastEntries = Callable[[], Awaitable[Sequence[Json]]]


def event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _common_prefix(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of equal blocks from the start."""
    for index, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return index
    return min(len(one), len(other))


class PageState:
    """What one page has received so far."""

    def __init__(self, conversation: LiveConversation, renderer: Renderer) -> None:
        self._conversation = conversation
        self._renderer = renderer
        self._messages = 0
        self._removed = 0
        self._cleared = conversation.cleared
        self._outdated = -1
        self._replies: dict[str, tuple[int, tuple[str, ...]]] = {}

    @property
    def is_outdated(self) -> bool:
        """Whether the stored entries have to be read again."""
        return self._outdated != self._conversation.outdated

    def begin_read(self) -> None:
        """Called before the stored entries are read: later changes make them outdated."""
        self._outdated = self._conversation.outdated

    def snapshot(self, past: Sequence[Json]) -> Json:
        """All entries: the stored ones, updated by the live ones."""
        live = self._conversation
        self._removed = len(live.removed)
        self._replies.clear()
        # Read before the conversation was deleted, the stored entries are out of date.
        stored = past if self._cleared == live.cleared else ()
        self._cleared = live.cleared
        entries = {str(entry["id"]): entry for entry in stored}
        for message in live.messages:
            if message["kind"] != "gone":
                entries.setdefault(str(message["id"]), message)
        self._messages = len(live.messages)
        for reply in live.replies.values():
            for replaced in reply.replaces:
                entries.pop(replaced, None)
            entries = _inserted(entries, reply.after, self._update(reply))
        return {"entries": list(entries.values())}

    def changes(self) -> list[bytes]:
        """Events for everything that changed since the last call."""
        live = self._conversation
        if live.cleared != self._cleared:
            return [event("conversation", self.snapshot(()))]
        events = [event("entry", message) for message in live.messages[self._messages :]]
        self._messages = len(live.messages)
        events += [event("remove", {"id": removed}) for removed in live.removed[self._removed :]]
        self._removed = len(live.removed)
        for reply in list(live.replies.values()):
            if self._replies.get(reply.id, (-1,))[0] != reply.revision:
                events.append(event("entry", self._update(reply)))
        return events

    def _update(self, reply: LiveReply) -> Json:
        revision, blocks = reply.blocks(self._renderer)
        sent = self._replies.get(reply.id, (0, ()))[1]
        keep = _common_prefix(sent, blocks)
        self._replies[reply.id] = (revision, blocks)
        return {**reply.entry(), "keep": keep, "blocks": list(blocks[keep:])}


def _inserted(entries: dict[str, Json], after: str, entry: Json) -> dict[str, Json]:
    """The entries with one more, right behind the entry `after` where there is one."""
    key = str(entry["id"])
    if key in entries or after not in entries:
        return {**entries, key: entry}
    result: dict[str, Json] = {}
    for name, known in entries.items():
        result[name] = known
        if name == after:
            result[key] = entry
    return result


async def _next_events(page: PageState, past: PastEntries) -> list[bytes]:
    """Events that bring the page up to date. Raises StorageError."""
    if not page.is_outdated:
        return page.changes()
    page.begin_read()
    stored = await past()
    return [event("conversation", page.snapshot(stored)), *page.changes()]


async def event_stream(
    live: LiveConversations, channel_id: str, past: PastEntries
) -> AsyncIterator[bytes]:
    """The event stream of one page. It ends when the server closes or the page disconnects."""
    with live.subscribe(channel_id) as (conversation, changed):
        page = PageState(conversation, live.renderer)
        changed.set()
        while not live.closed:
            try:
                async with asyncio.timeout(PING_S):
                    await changed.wait()
            except TimeoutError:
                yield b": ping\n\n"
                continue
            changed.clear()
            await live.renderer.render_ahead(
                reply.source() for reply in conversation.replies.values()
            )
            began = time.perf_counter()
            try:
                events = await _next_events(page, past)
            except StorageError:
                yield event("trouble", {"error": "The conversation cannot be read at the moment."})
                return
            took_s = time.perf_counter() - began
            for one in events:
                yield one
            # A long reply takes long to render: rendering gets at most a tenth of the time.
            await asyncio.sleep(max(FRAME_S, 9 * took_s))
