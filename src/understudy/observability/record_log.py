"""Writes the log lines of attempts and replies, as JSON in batches outside the reply's path."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import msgspec
import structlog

from understudy.llm.messages import Usage
from understudy.observability.events import (
    ATTEMPT,
    PLAIN_FIELDS,
    REPLY,
    REPLY_FIELDS,
    Field,
    attempt_fields,
    attempt_level,
    breaker_fields,
    iso,
    iso_precise,
    read_plain,
    reply_fields,
    reply_level,
    reply_values,
)
from understudy.observability.logs import LEVELS, Logs
from understudy.routing.records import AttemptRecord, ReplyRecord

_USAGE = ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens",
          "cache_write_tokens")  # fmt: skip


def _line_of(name: str, fields: Sequence[str]) -> type[msgspec.Struct]:
    """Return a JSON object with these fields, filled by position, those without a value omitted."""
    return msgspec.defstruct(
        name, [(field, object, None) for field in fields], omit_defaults=True, gc=False
    )


_AttemptLine = _line_of(
    "_AttemptLine",
    (
        "ts",
        "level",
        "event",
        "started",
        "candidate",
        *PLAIN_FIELDS,
        *_USAGE,
        "usage_source",
        "cost_source",
        "degraded",
        "held_until",
        "breaker_scope",
        "breaker_before",
        "breaker_after",
        "breaker_hold_s",
    ),
)
"""The fields of `attempt_fields`."""
_ReplyLine = _line_of(
    "_ReplyLine",
    ("ts", "level", "event", *REPLY_FIELDS, *_USAGE, "usage_source", "cost_usd"),
)
"""The fields of `reply_fields`."""
_encoder = msgspec.json.Encoder(enc_hook=str)
_NO_USAGE = (None,) * 6


def _read_usage(usage: Usage | None) -> tuple[object, ...]:
    """Return the values of `_USAGE` and the source."""
    return _NO_USAGE if usage is None else msgspec.structs.astuple(usage)[:6]


_BATCH_S = 0.05
_LARGEST_BATCH = 100


def _attempt_line(record: AttemptRecord, level: str, wall: float) -> msgspec.Struct:
    return _AttemptLine(
        iso_precise(wall),
        level,
        ATTEMPT,
        iso(record.ts),
        record.candidate,
        *read_plain(record),
        *_read_usage(record.usage),
        None if record.cost_usd is None else record.cost_source,
        *_read_rest(record),
    )


def _read_rest(record: AttemptRecord) -> tuple[object, ...]:
    """Return the values from `degraded` on; few attempts have any."""
    degraded, held_until, breaker = record.degraded, record.held_until, record.breaker
    if breaker is None and held_until is None and not degraded:
        return ()
    return (
        ",".join(degraded) or None,
        None if held_until is None else iso(held_until),
        *(() if breaker is None else breaker_fields(breaker).values()),
    )


def _reply_line(record: ReplyRecord, level: str, wall: float) -> msgspec.Struct:
    return _ReplyLine(
        iso_precise(wall),
        level,
        REPLY,
        *reply_values(record),
        *_read_usage(record.usage),
        record.cost_usd,
    )


class LogObserver:
    """One log event per attempt and one per reply.

    Where `logs` writes JSON, lines are made, encoded and written in batches; a context manager
    writes the last ones.
    """

    def __init__(self, logs: Logs | None = None, wall: Callable[[], float] = time.time) -> None:
        self._json = logs if logs is not None and logs.writes_json else None
        """Where records are written in batches."""
        self._shows_attempts = logs is None or not logs.in_dialogue
        self._log: structlog.stdlib.BoundLogger = structlog.get_logger("understudy.routing")
        self._wall = wall
        self._batch: list[tuple[float, AttemptRecord | ReplyRecord]] = []
        self._timer: asyncio.TimerHandle | None = None

    def attempt_ended(self, record: AttemptRecord) -> None:
        if self._json is not None:
            self._batch.append((self._wall(), record))
            if self._timer is None:
                self._start_timer()
        elif self._shows_attempts:
            self._emit(attempt_level(record), ATTEMPT, attempt_fields(record))

    def reply_ended(self, record: ReplyRecord) -> None:
        if self._json is not None:
            self._batch.append((self._wall(), record))
            if self._timer is None:
                self._start_timer()
            elif len(self._batch) >= _LARGEST_BATCH:
                self._write()
        else:
            self._emit(reply_level(record), REPLY, reply_fields(record))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def flush(self) -> None:
        """Write the lines of all records so far."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write()

    def _write(self) -> None:
        batch, self._batch = self._batch, []
        if self._json is not None and batch:
            lines = _lines(self._json, batch)
            if lines:
                self._json.write_batch(_encoder.encode_lines(lines), len(lines))

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_BATCH_S, self.flush)

    def _emit(self, level: str, event: str, values: dict[str, Field]) -> None:
        getattr(self._log, level)(event, **values)


def _lines(
    logs: Logs, batch: Iterable[tuple[float, AttemptRecord | ReplyRecord]]
) -> list[msgspec.Struct]:
    """Return the lines of the records whose level is shown."""
    shown = {level for level in LEVELS if logs.shows(level)}
    lines: list[msgspec.Struct] = []
    for wall, record in batch:
        if isinstance(record, AttemptRecord):
            level = attempt_level(record)
            if level in shown:
                lines.append(_attempt_line(record, level, wall))
        else:
            level = reply_level(record)
            if level in shown:
                lines.append(_reply_line(record, level, wall))
    return lines
