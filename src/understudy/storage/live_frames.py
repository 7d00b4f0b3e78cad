"""Passes the text of replies on the page to the other instances while it is being written."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from sqlalchemy import Connection, and_, delete, select
from sqlalchemy.dialects.postgresql import insert

from understudy.errors import StorageError
from understudy.storage.coordination import Coordinator
from understudy.storage.database import Database
from understudy.storage.shared_tables import frames
from understudy.storage.tables import LIVE, batches

_WRITE_EVERY_S = 0.5
_CHANGE = "change:"
"""Begins the id of a frame that is no reply's."""
_OVERLAP_S = 2.0
_KEPT_S = 60.0
_SILENT_S = 3.0
"""After this long without a frame, the batch of a reply says whether it is still written."""


@dataclass(frozen=True, slots=True)
class Frame:
    reply_id: str
    channel_id: str
    after_id: str
    """The message it answers, as the page names it."""
    text: str
    ended: bool = False
    """Stored, withdrawn or given up: the inbox says which."""

    @staticmethod
    def of_change(channel_id: str, change: str) -> "Frame":
        """Says what was stored of a conversation, other than a reply."""
        return Frame(f"{_CHANGE}{change}:{channel_id}", channel_id, "", "", ended=True)

    @property
    def change(self) -> str:
        """As given to `of_change`; empty for a reply."""
        return self.reply_id.split(":", 2)[1] if self.reply_id.startswith(_CHANGE) else ""


class LiveFrames:
    """Opened with `open_frames`. Frames are lost while the database cannot be used."""

    def __init__(
        self,
        database: Database,
        coordinator: Coordinator,
        watched: Callable[[], Collection[str]],
        show: Callable[[Frame], None],
        silent_s: float = _SILENT_S,
    ) -> None:
        self._silent_s = silent_s
        self._database = database
        self._coordinator = coordinator
        self._watched = watched
        self._show = show
        self._newest: dict[str, Frame] = {}
        self._changed = asyncio.Event()
        self._read_until = coordinator.clock.now()
        self._shown: dict[str, float] = {}
        self._writing: dict[str, tuple[Frame, float]] = {}
        """Replies that are shown as being written, with the time of their last frame or check."""

    def put(self, frame: Frame) -> None:
        """Pass on the newest state of a reply, at most twice a second."""
        self._newest[frame.reply_id] = frame
        self._changed.set()

    async def run(self) -> None:
        """Write frames until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            written, self._newest = self._newest, {}
            # A lost frame is superseded by the next one, and the end of a reply by its batch.
            with suppress(StorageError):
                await self.write(tuple(written.values()))
            await asyncio.sleep(_WRITE_EVERY_S)

    async def write(self, written: Sequence[Frame]) -> None:
        """Raises StorageError."""
        await self._database.write(lambda on: self._write(on, written))
        self._coordinator.notify()

    def _write(self, connection: Connection, written: Sequence[Frame]) -> None:
        now = self._coordinator.clock.now()
        for frame in sorted(written, key=lambda one: one.reply_id):
            values = {
                "channel_id": frame.channel_id,
                "after_id": frame.after_id,
                "text": frame.text,
                "ended": frame.ended,
                "owner": self._coordinator.id,
                "changed_at": now,
            }
            connection.execute(
                insert(frames)
                .values(reply_id=frame.reply_id, **values)
                .on_conflict_do_update(index_elements=["reply_id"], set_=values)
            )
        connection.execute(delete(frames).where(frames.c.changed_at < now - _KEPT_S))

    async def refresh(self) -> None:
        """Show what other instances write in the conversations that are open here."""
        watched, now = self._watched(), self._coordinator.clock.now()
        since, self._read_until = self._read_until - _OVERLAP_S, now
        await self._end_settled(now)
        if not watched:
            return
        query = select(frames).where(
            and_(
                frames.c.changed_at > since,
                frames.c.owner != self._coordinator.id,
                frames.c.channel_id.in_(watched),
            )
        )
        rows = await self._database.read(lambda on: on.execute(query).mappings().all())
        for row in rows:
            if self._shown.get(row["reply_id"]) != row["changed_at"]:
                self._shown[row["reply_id"]] = row["changed_at"]
                place = (row["reply_id"], row["channel_id"], row["after_id"])
                self._pass(Frame(*place, row["text"], ended=bool(row["ended"])), now)
        self._shown = {key: at for key, at in self._shown.items() if at > now - _KEPT_S}

    def _pass(self, frame: Frame, now: float) -> None:
        if frame.ended:
            self._writing.pop(frame.reply_id, None)
        else:
            self._writing[frame.reply_id] = (frame, now)
        self._show(frame)

    async def _end_settled(self, now: float) -> None:
        """End replies whose last frame is lost: its instance may have died with it."""
        silent = {
            reply_id: frame
            for reply_id, (frame, at) in self._writing.items()
            if at < now - self._silent_s
        }
        if not silent:
            return
        query = select(batches.c.reply_id).where(LIVE, batches.c.reply_id.in_(silent))
        live = set(await self._database.read(lambda on: on.scalars(query).all()))
        for reply_id, frame in silent.items():
            if reply_id in live:
                self._writing[reply_id] = (frame, now)
            else:
                self._pass(replace(frame, ended=True), now)


@asynccontextmanager
async def open_frames(
    database: Database,
    coordinator: Coordinator,
    watched: Callable[[], Collection[str]],
    show: Callable[[Frame], None],
) -> AsyncGenerator[LiveFrames]:
    """`watched` names the conversations with an open page; `show` receives their frames."""
    live = LiveFrames(database, coordinator, watched, show)
    coordinator.refreshers.append(live.refresh)
    task = asyncio.create_task(live.run(), name="live frames")
    try:
        yield live
    finally:
        coordinator.refreshers.remove(live.refresh)
        task.cancel()
        await asyncio.wait({task})
