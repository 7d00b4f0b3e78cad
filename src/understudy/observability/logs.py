"""Sets up structlog: lines for people on a terminal, JSON lines otherwise, always to one stream."""

import codecs
import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import BinaryIO, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from understudy.config.settings import Logging
from understudy.control_characters import visible
from understudy.observability.events import LINES_DROPPED, TELLING
from understudy.observability.log_tail import LogTail

Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_LEVEL_OF = {"exception": "error", "warn": "warning"}
"""Where the method's name is not that of the level."""
_REPEAT_S = 10.0
_MAX_KINDS = 1000
_MAX_KEY = 200
_EXPLAINS = ("advice", "said", "reason", "error_text", "error")
"""Fields that explain an event in words, the best first."""
_NAMES = ("provider", "model_requested", "error_class", "http_status")
"""Fields that stand in where none explains."""
_MAX_DETAIL = 200
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Logs:
    """The process's logging. Made once; what it changes is global, as logging is."""

    def __init__(self, settings: Logging, stream: TextIO, *, plain: bool = False) -> None:
        """With `plain`, a line is one sentence for a person in a dialogue, without fields."""
        self._stream = stream
        self._plain = plain
        self._bytes: BinaryIO | None = _bytes_below(stream)
        self._held: list[str | bytes] | None = None
        self._dropped = 0
        """Lines that could not be written since the last one that was."""
        self.tail = LogTail()
        self._level = settings.level
        self._fields: dict[str, str] = {}
        self._console = (
            plain or settings.format == "console" or (settings.format == "auto" and stream.isatty())
        )
        self._apply()
        _adopt_other_libraries()

    @property
    def level(self) -> Level:
        return self._level

    @property
    def writes_json(self) -> bool:
        return not self._console

    @property
    def in_dialogue(self) -> bool:
        """Whether a person reads the lines between replies, each of which shows its route."""
        return self._plain

    def shows(self, level: str) -> bool:
        return LEVELS[level] >= LEVELS[self._level]

    def set_level(self, level: Level) -> None:
        """Takes effect at once, for every logger there is."""
        self._level = level
        self._apply()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep lines back, so that none goes through a line that is being written elsewhere."""
        outer, self._held = self._held, self._held if self._held is not None else []
        try:
            yield
        finally:
            if outer is None:
                waiting, self._held = self._held, None
                for line in waiting:
                    self._write(line)

    def write(self, line: str) -> None:
        self.tail.add(line)
        self._write(line)

    def _write(self, lines: str | bytes) -> None:
        if self._held is not None:
            self._held.append(lines)
            return
        try:
            if isinstance(lines, bytes) and self._bytes is not None:
                self._stream.flush()
                self._bytes.write(lines)
            else:
                self._stream.write(lines if isinstance(lines, str) else lines.decode())
            self._stream.flush()
        except (OSError, ValueError):
            # The disk is full, or the reader of the pipe is gone: replies go on without a log.
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            structlog.get_logger().warning(LINES_DROPPED, lines=dropped)

    def bind(self, **fields: str) -> None:
        """Add these fields to every line from now on."""
        self._fields |= fields
        self._apply()

    def write_batch(self, lines: bytes, count: int) -> None:
        """Write that many JSON lines, each with its line feed."""
        if self._fields:
            # JSON text holds a line feed only between the lines.
            lines = lines.replace(b"}\n", b",%b\n" % _encode(self._fields)[1:])
        self.tail.add(lines, count)
        self._write(lines)

    def _processors(self) -> list[Processor]:
        return [self._with_fields, *self._format()] if self._fields else self._format()

    def _with_fields(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**event, **self._fields}

    def _format(self) -> list[Processor]:
        if self._plain:
            return [_as_sentence]
        if not self._console:
            return [_exceptions_without_words, _as_json]
        brief = [] if self._level == "debug" else [_brief]
        return [*brief, *_console(self._stream)]

    def _apply(self) -> None:
        structlog.configure(
            processors=self._processors(),
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[self._level]),
            logger_factory=lambda *_: _Line(self),
            # Loggers that remembered their set-up would miss a change of level.
            cache_logger_on_first_use=False,
        )


def _bytes_below(stream: TextIO) -> BinaryIO | None:
    """Return where a stream writes UTF-8 unchanged, if it does: lines are encoded already."""
    below: BinaryIO | None = getattr(stream, "buffer", None)
    if below is None or os.linesep != "\n":
        return None
    return below if codecs.lookup(stream.encoding).name == "utf-8" else None


class _Line:
    """What structlog writes to."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def msg(self, message: str) -> None:
        self._logs.write(message + "\n")

    debug = info = warning = warn = error = exception = critical = fatal = msg


def _as_json(_logger: WrappedLogger, method: str, event: EventDict) -> str:
    # structlog's own steps for these two fields take as long as all the rest of a line.
    level = _LEVEL_OF.get(method, method)
    return _encode({"ts": _now(), "level": level, "event": event.pop("event"), **event}).decode()


def _as_sentence(_logger: WrappedLogger, method: str, event: EventDict) -> str:
    level = _LEVEL_OF.get(method, method)
    name = str(event["event"]).replace(".", ": ").replace("_", " ")
    found = (event[key] for key in _EXPLAINS if event.get(key))
    names = ", ".join(str(event[key]) for key in _NAMES if event.get(key))
    detail = next(iter(str(next(found, names)).splitlines()), "")
    return visible(f"{level}: {name}" + (f" ({detail[:_MAX_DETAIL]})" if detail else ""))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _console(stream: TextIO) -> tuple[Processor, ...]:
    return (
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False, key="ts"),
        _exceptions_without_words,
        _visible_values,
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), timestamp_key="ts", pad_event_to=20, sort_keys=False
        ),
    )


def _visible_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {k: visible(v) if isinstance(v, str) else v for k, v in event.items()}


def _brief(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What people want of an event that has more fields than a terminal has columns."""
    wanted = TELLING.get(event["event"])
    if wanted is None:
        return event
    return {"event": event["event"]} | {name: event[name] for name in wanted if name in event}


def _exceptions_without_words(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say where an exception came from. What it says may quote a prompt or a key."""
    info = event.pop("exc_info", None)
    if info is None:
        return event
    if info is True:
        info = sys.exc_info()[1]
    elif isinstance(info, tuple):
        info = info[1]
    if isinstance(info, BaseException):
        frames = traceback.extract_tb(info.__traceback__)[-8:]
        event["exception"] = type(info).__name__
        event["stack"] = " < ".join(
            f"{frame.name} {frame.filename.rpartition('/')[2]}:{frame.lineno}"
            for frame in reversed(frames)
        )
    return event


class _ToStructlog(logging.Handler):
    """Warnings of other libraries in the same form: the library and the warning's template.

    Arguments are left out unless they are numbers: they may contain what people wrote. The same
    warning is written once in ten seconds: where no more files can be opened, asyncio warns a
    thousand times.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._repeated: dict[tuple[str, str, str], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        repeated = self._count(record)
        if repeated is None:
            return
        level = "error" if record.levelno >= logging.ERROR else "warning"
        text = _template(record)
        structlog.get_logger().log(
            LEVELS[level],
            "library.warning",
            library=record.name,
            **({} if text is None else {"said": text}),
            exc_info=record.exc_info,
            **({"repeated": repeated} if repeated else {}),
        )

    def _count(self, record: logging.LogRecord) -> int | None:
        """How often the same warning was left out since the last one; None to leave it out."""
        kind = type(record.exc_info[1]).__name__ if record.exc_info else ""
        key = (record.name, str(record.msg)[:_MAX_KEY], kind)
        now = self._clock()
        since, left_out = self._repeated.get(key, (-math.inf, 0))
        if now - since < _REPEAT_S:
            self._repeated[key] = (since, left_out + 1)
            return None
        if len(self._repeated) > _MAX_KINDS:
            self._repeated.clear()
        self._repeated[key] = (now, 0)
        return left_out


def _template(record: logging.LogRecord) -> str | None:
    """None for a text without a template: its words may have been inserted already."""
    if not isinstance(record.msg, str) or not record.args:
        return None
    arguments = record.args.values() if isinstance(record.args, dict) else record.args
    if all(isinstance(argument, int | float) for argument in arguments):
        return record.getMessage()
    return record.msg


def _adopt_other_libraries() -> None:
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(logging.WARNING)
