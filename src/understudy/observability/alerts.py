"""Reports problems that only the operator can fix, once per cause and day."""

import time
from collections.abc import Callable
from typing import Final

import structlog

from understudy.clock import DAY_S
from understudy.errors import ErrorClass
from understudy.observability import events
from understudy.routing.records import AttemptRecord, ReplyRecord

AlertListener = Callable[[str], None]
"""Takes one sentence for the operator. Must not block or raise."""

_log = structlog.get_logger("understudy.operator")
_ADVICE: Final[dict[ErrorClass, str]] = {
    ErrorClass.AUTH: (
        "{provider} refuses the key {key}: check or replace it, then reload the configuration."
    ),
    ErrorClass.QUOTA: "{provider} has no credit left for the key {key}: top it up.",
    ErrorClass.MODEL_GONE: (
        "{provider} no longer has the model {model}: choose another; "
        "`understudy doctor` lists what there is."
    ),
}


class Alerts:
    """An observer. Alerts go to the log and to `listeners`, such as messages to admins."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.listeners: list[AlertListener] = []
        self._wall = wall
        self._day = -1
        self._reported: set[str] = set()

    def attempt_ended(self, record: AttemptRecord) -> None:
        if record.error_class not in _ADVICE or record.skip_reason is not None:
            return
        text = _ADVICE[record.error_class].format(
            provider=record.label,
            key=record.key_ref or "it has",
            model=record.model_requested or "it had",
        )
        if self._is_new(text):
            _log.warning(
                events.ALERT,
                cause=record.error_class.value,
                provider=record.provider,
                candidate=record.candidate,
                request_id=record.request_id,
                advice=text,
            )
            for listener in self.listeners:
                listener(text)

    def reply_ended(self, record: ReplyRecord) -> None:
        """Alerts depend on attempts only."""

    def _is_new(self, text: str) -> bool:
        day = int(self._wall() // DAY_S)
        if day != self._day:
            self._day, self._reported = day, set()
        if text in self._reported:
            return False
        self._reported.add(text)
        return True
