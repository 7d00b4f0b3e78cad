"""Attempts and replies as they end, for the operator's page."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from understudy.platforms.web.serializers import Json, attempt_row, reply_row
from understudy.routing.records import AttemptRecord, ReplyRecord

MAX_ROWS = 200


class AttemptFeed:
    """The last rows, numbered, so that each page can continue from the last row it received.

    Records become rows when a page reads them: most are never read.
    """

    def __init__(self) -> None:
        self._records: deque[AttemptRecord | ReplyRecord] = deque(maxlen=MAX_ROWS)
        self._count = 0
        self._listeners: set[asyncio.Event] = set()
        self.closed = False

    @property
    def count(self) -> int:
        """The number of the newest row."""
        return self._count

    def attempt_ended(self, record: AttemptRecord) -> None:
        self._add(record)

    def reply_ended(self, record: ReplyRecord) -> None:
        self._add(record)

    def since(self, number: int) -> list[Json]:
        """The stored rows after that number, oldest first."""
        fresh = max(0, min(self._count - number, len(self._records)))
        records = list(self._records)[len(self._records) - fresh :]
        return [_row(record, n) for n, record in enumerate(records, self._count - fresh + 1)]

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

    def _add(self, record: AttemptRecord | ReplyRecord) -> None:
        self._count += 1
        self._records.append(record)
        if self._listeners:
            self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener.set()


def _row(record: AttemptRecord | ReplyRecord, number: int) -> Json:
    if isinstance(record, AttemptRecord):
        return {"kind": "attempt", "number": number, **attempt_row(record)}
    return {"kind": "reply", "number": number, **reply_row(record)}
