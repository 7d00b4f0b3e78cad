"""One page that listens to a conversation: first all of it, then what changes, as SSE."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from understudy.errors import StorageError
from understudy.platforms.web.live import LiveReply, Room, Rooms
from understudy.platforms.web.serializers import Json

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

    def __init__(self, room: Room) -> None:
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


async def listen(rooms: Rooms, channel_id: str, past: PastEntries) -> AsyncIterator[bytes]:
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
