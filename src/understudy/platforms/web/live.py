"""The live side of web conversations: who is looking, what is being written.

A room is where the pages of one conversation and the replies to it meet. Writers only change its
entries; every listener brings its own page up to date from them, as fast as that page can take it.
So a slow page never holds up a reply, and nothing queues.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from understudy.conversation.delivery import OfflineNotice, Reply, ReplyContext
from understudy.conversation.messages import Inbound
from understudy.errors import StorageError
from understudy.platforms.web.markdown import blocks, mended
from understudy.platforms.web.serializers import Json, asked_entry, step_of, steps_of
from understudy.routing.records import AttemptRecord, ReplyRecord

ReplyState = Literal["writing", "done", "partial", "stopped", "offline"]


@dataclass(slots=True)
class LiveReply:
    """A reply as it stands on the page. `revision` is the room's tick of its last change."""

    id: str
    after: str
    replaces: tuple[str, ...]
    at: float
    state: ReplyState = "writing"
    text: str = ""
    steps: list[Json] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    retry_at: float | None = None
    revision: int = 0
    _rendered: tuple[int, tuple[str, ...]] = (-1, ())

    def blocks(self) -> tuple[str, ...]:
        if self._rendered[0] != self.revision:
            text = mended(self.text) if self.state == "writing" else self.text
            self._rendered = (self.revision, blocks(text))
        return self._rendered[1]

    def entry(self) -> Json:
        """All of it but the blocks, which travel as differences."""
        return {
            "id": self.id,
            "kind": "reply",
            "after": self.after,
            "replaces": list(self.replaces),
            "state": self.state,
            "text": "" if self.state == "writing" else self.text,
            "steps": self.steps,
            "notes": list(self.notes),
            "retry_at": self.retry_at,
            "at": self.at,
        }


@dataclass(slots=True)
class LiveConversation:
    """One conversation with somebody in it."""

    said: list[Json] = field(default_factory=list)
    """What was asked since the room opened."""
    replies: dict[str, LiveReply] = field(default_factory=dict)
    listeners: set[asyncio.Event] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    """Ids of entries that were withdrawn."""
    emptied: int = 0
    """How often the conversation was deleted under those who look at it."""
    tick: int = 0

    def touch(self, reply: LiveReply) -> None:
        self.tick += 1
        reply.revision = self.tick
        self.changed()

    def changed(self) -> None:
        for listener in self.listeners:
            listener.set()

    @property
    def in_use(self) -> bool:
        writing = any(reply.state == "writing" for reply in self.replies.values())
        return bool(self.listeners) or writing


class LiveConversations:
    """All rooms. Also an AttemptObserver: the page shows each attempt as it ends."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rooms: dict[str, LiveConversation] = {}
        self._writing: dict[str, tuple[LiveConversation, LiveReply]] = {}
        self.closed = False

    def close(self) -> None:
        """Let every listener finish; pages then wait for the server to come back."""
        self.closed = True
        for room in self._rooms.values():
            room.changed()

    def room(self, channel_id: str) -> LiveConversation:
        return self._rooms.setdefault(channel_id, LiveConversation())

    @contextmanager
    def listening(self, channel_id: str) -> Iterator[tuple[LiveConversation, asyncio.Event]]:
        """A seat in the room, with the event that is set when it changes."""
        room, event = self.room(channel_id), asyncio.Event()
        room.listeners.add(event)
        try:
            yield room, event
        finally:
            room.listeners.discard(event)
            self.leave(channel_id)

    def leave(self, channel_id: str) -> None:
        """Forget the room once nobody is in it; its conversation is in the inbox."""
        if (room := self._rooms.get(channel_id)) and not room.in_use:
            del self._rooms[channel_id]

    def said(self, inbound: Inbound) -> None:
        """Show what a person asked, on every page that shows this conversation."""
        room = self.room(inbound.place.channel_id)
        if all(entry["id"] != inbound.message_id for entry in room.said):
            room.said.append(asked_entry(inbound))
            room.changed()

    def unsaid(self, inbound: Inbound) -> None:
        """Take a message back that could not be stored."""
        room = self.room(inbound.place.channel_id)
        for entry in room.said:
            if entry["id"] == inbound.message_id:
                entry["id"], entry["kind"] = "", "gone"
        room.removed.append(inbound.message_id)
        room.changed()

    def forget(self, channel_id: str) -> None:
        """Take everything back that was said in a conversation: it was deleted."""
        if room := self._rooms.get(channel_id):
            room.said.clear()
            room.removed.clear()
            room.replies.clear()
            room.emptied += 1
            room.changed()

    def open_delivery(self, task: ReplyContext) -> "WebDelivery":
        """The page's `OpenDelivery`."""
        room = self.room(task.place.channel_id)
        for gone in (*task.offline_message_ids, *task.replaces):
            room.replies.pop(gone, None)
        replaces = (*task.replaces, *task.offline_message_ids)
        reply = LiveReply(task.reply_id, task.trigger_id, replaces, self._clock())
        room.replies[reply.id] = reply
        self._writing[reply.id] = (room, reply)
        room.touch(reply)
        return WebDelivery(self, task.place.channel_id, room, reply)

    def writing_in(self, channel_id: str) -> tuple[str, ...]:
        room = self._rooms.get(channel_id)
        return tuple(reply for reply in (room.replies if room else ()) if reply in self._writing)

    def ended(self, channel_id: str, reply_id: str) -> None:
        self._writing.pop(reply_id, None)
        self.leave(channel_id)

    def attempt_ended(self, record: AttemptRecord) -> None:
        room, reply = self._writing.get(record.request_id, (None, None))
        step = step_of(record)
        if room and reply and step:
            reply.steps = [*reply.steps, step]
            room.touch(reply)

    def reply_ended(self, record: ReplyRecord) -> None:
        """Nothing to show: the delivery brings the finished reply."""


class WebDelivery:
    """Writes one reply into its room."""

    def __init__(
        self, rooms: LiveConversations, channel_id: str, room: LiveConversation, reply: LiveReply
    ) -> None:
        self._rooms = rooms
        self._channel_id = channel_id
        self._room = room
        self._reply = reply

    async def earlier(self) -> tuple[str, ...]:
        """Nothing outlives the process here: what was shown is gone with the page's stream."""
        return ()

    def shown(self) -> bool:
        return bool(self._reply.text)

    async def write(self, text: str) -> None:
        self._reply.text = text
        self._touch()

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        live = self._reply
        live.text, live.notes = reply.text, reply.notes
        live.steps = steps_of(reply.record.attempts)
        live.state = "stopped" if reply.stopped else "partial" if reply.partial else "done"
        self._touch()
        return (live.id,)

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        live = self._reply
        if not notice.text:
            return ()
        live.text, live.retry_at, live.state = notice.text, notice.retry_at, "offline"
        live.steps = steps_of(notice.record.attempts)
        self._touch()
        return (live.id,)

    async def withdraw(self) -> None:
        self._room.replies.pop(self._reply.id, None)
        self._room.removed.append(self._reply.id)
        self._room.changed()

    async def aclose(self) -> None:
        if self._reply.state == "writing" and self._reply.id in self._room.replies:
            await self.withdraw()
        self._rooms.ended(self._channel_id, self._reply.id)

    def _touch(self) -> None:
        self._room.touch(self._reply)


FRAME_S = 0.04
"""The least time between two updates: faster than this nobody reads."""
PING_S = 15.0

PastEntries = Callable[[], Awaitable[Sequence[Json]]]


def event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many blocks from the start are the same."""
    for index, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return index
    return min(len(one), len(other))


class PageState:
    """What one page has been told so far."""

    def __init__(self, room: LiveConversation) -> None:
        self._room = room
        self._said = 0
        self._removed = 0
        self._emptied = room.emptied
        self._replies: dict[str, tuple[int, tuple[str, ...]]] = {}

    def whole(self, past: Sequence[Json]) -> Json:
        """Everything: the conversation's memory, and over it what is alive in the room."""
        self._removed = len(self._room.removed)
        self._replies.clear()
        # Where it was deleted meanwhile, the past was read too early.
        kept = past if self._emptied == self._room.emptied else ()
        self._emptied = self._room.emptied
        entries = {str(entry["id"]): entry for entry in kept}
        for said in self._room.said:
            if said["kind"] != "gone":
                entries.setdefault(str(said["id"]), said)
        self._said = len(self._room.said)
        for reply in self._room.replies.values():
            for gone in reply.replaces:
                entries.pop(gone, None)
            entries = _placed(entries, reply.after, self._update(reply))
        return {"entries": list(entries.values())}

    def news(self) -> list[bytes]:
        """Events for all that changed since the last call."""
        room = self._room
        if room.emptied != self._emptied:
            return [event("conversation", self.whole(()))]
        events = [event("entry", said) for said in room.said[self._said :]]
        self._said = len(room.said)
        events += [event("remove", {"id": gone}) for gone in room.removed[self._removed :]]
        self._removed = len(room.removed)
        for reply in list(room.replies.values()):
            if self._replies.get(reply.id, (-1,))[0] != reply.revision:
                events.append(event("entry", self._update(reply)))
        return events

    def _update(self, reply: LiveReply) -> Json:
        blocks = reply.blocks()
        told = self._replies.get(reply.id, (0, ()))[1]
        keep = _common(told, blocks)
        self._replies[reply.id] = (reply.revision, blocks)
        return {**reply.entry(), "keep": keep, "blocks": list(blocks[keep:])}


def _placed(entries: dict[str, Json], after: str, entry: Json) -> dict[str, Json]:
    key = str(entry["id"])
    if key in entries or after not in entries:
        return {**entries, key: entry}
    placed: dict[str, Json] = {}
    for name, known in entries.items():
        placed[name] = known
        if name == after:
            placed[key] = entry
    return placed


async def listen(
    rooms: LiveConversations, channel_id: str, past: PastEntries
) -> AsyncIterator[bytes]:
    """The event stream of one page. Ends only when the server closes or the page leaves."""
    with rooms.listening(channel_id) as (room, changed):
        page = PageState(room)
        try:
            remembered = await past()
        except StorageError:
            yield event("trouble", {"error": "The conversation cannot be read right now."})
            return
        changed.clear()
        yield event("conversation", page.whole(remembered))
        while not rooms.closed:
            try:
                async with asyncio.timeout(PING_S):
                    await changed.wait()
            except TimeoutError:
                yield b": here\n\n"
                continue
            changed.clear()
            began = time.perf_counter()
            fresh = page.news()
            took_s = time.perf_counter() - began
            for news in fresh:
                yield news
            # A long reply takes long to render: never spend more than a tenth of the time on it.
            await asyncio.sleep(max(FRAME_S, 9 * took_s))
