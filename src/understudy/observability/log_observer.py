"""Tells the log of every attempt and every reply."""

import structlog

from understudy.observability import events
from understudy.routing.records import AttemptRecord, ReplyRecord


class LogObserver:
    """One log event per attempt and one per reply."""

    def __init__(self) -> None:
        self._log: structlog.stdlib.BoundLogger = structlog.get_logger("understudy.routing")

    def attempt_ended(self, record: AttemptRecord) -> None:
        self._tell(events.attempt_level(record), events.ATTEMPT, events.attempt_fields(record))

    def reply_ended(self, record: ReplyRecord) -> None:
        self._tell(events.reply_level(record), events.REPLY, events.reply_fields(record))

    def _tell(self, level: str, event: str, told: dict[str, events.Field]) -> None:
        getattr(self._log, level)(event, **told)
