"""The event stream of one page: the difference between what it shows and the conversation."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from understudy.errors import StorageError
from understudy.platforms.web.live import LiveConversations
from understudy.platforms.web.live_entries import LiveConversation, LiveReply
from understudy.platforms.web.rendering import Renderer
from understudy.platforms.web.serializers import Json

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
        self._titled = conversation.titled
        self._proposed = conversation.proposed
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
            if reply.is_remote:
                _drop_reply_after(entries, reply.after)
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
        if live.titled != self._titled:
            self._titled = live.titled
            events.append(event("title", {}))
        if live.proposed != self._proposed:
            self._proposed = live.proposed
            events.append(event("proposal", {}))
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


def _drop_reply_after(entries: dict[str, Json], message: str) -> None:
    """Drop the stored reply to a message: another process replaces it."""
    names = list(entries)
    place = names.index(message) + 1 if message in entries else len(names)
    if place < len(names) and entries[names[place]]["kind"] == "reply":
        del entries[names[place]]


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
