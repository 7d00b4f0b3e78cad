"""Attempts and replies as they end, for the operator's page."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from understudy.platforms.web.serializers import Json, attempt_row, reply_row
from understudy.routing.records import AttemptRecord, ReplyRecord

MAX_ROWS = 200


class AttemptFeed:
    """The last rows, numbered, so that each page can continue from the last row it received."""

    def __init__(self) -> None:
        self._rows: deque[Json] = deque(maxlen=MAX_ROWS)
        self._count = 0
        self._listeners: set[asyncio.Event] = set()
        self.closed = False

    @property
    def count(self) -> int:
        """The number of the newest row."""
        return self._count

    def attempt_ended(self, record: AttemptRecord) -> None:
        self._add("attempt", attempt_row(record))

    def reply_ended(self, record: ReplyRecord) -> None:
        self._add("reply", reply_row(record))

    def since(self, number: int) -> list[Json]:
        """The stored rows after that number, oldest first."""
        fresh = min(self._count - number, len(self._rows))
        return list(self._rows)[len(self._rows) - fresh :] if fresh > 0 else []

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        """An event that is set by each new row, and when the feed closes."""
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            yield event
        finally:
            self._listeners.discard(event)

    def close(self) -> None:
        self.closed = True
        self._notify()

    def _add(self, kind: str, row: Json) -> None:
        self._count += 1
        self._rows.append({"kind": kind, "number": self._count, **row})
        self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener.set()
