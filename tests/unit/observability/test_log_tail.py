"""The last lines of the log, for the operator's page."""

from io import StringIO

import structlog

from understudy.config.settings import Logging
from understudy.observability.log_tail import MAX_LINES, LogTail
from understudy.observability.logs import Logs


def test_a_reader_continues_after_the_last_line_it_received() -> None:
    tail = LogTail()
    tail.add(["a\n", b"b"])
    seen = tail.count
    tail.add(["\x1b[31mc\x1b[0m\n"])

    assert tail.since(0) == ["a", "b", "c"]
    assert tail.since(seen) == ["c"]
    assert tail.since(tail.count) == []


def test_only_the_newest_lines_are_kept() -> None:
    tail = LogTail()
    tail.add(str(number) for number in range(MAX_LINES + 10))

    lines = tail.since(3)

    assert (len(lines), lines[0], lines[-1]) == (MAX_LINES, "10", str(MAX_LINES + 9))


def test_every_written_line_is_in_the_tail_once() -> None:
    logs = Logs(Logging(format="json"), StringIO())
    with logs.held():
        structlog.get_logger().info("one.event")
    logs.write_lines([b'{"event":"batch"}'])

    lines = logs.tail.since(0)

    assert len(lines) == 2
    assert "one.event" in lines[0]
    assert lines[1] == '{"event":"batch"}'
