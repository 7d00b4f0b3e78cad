"""The last lines of the log, for the operator's page."""

from io import StringIO

import structlog

from understudy.config.settings import Logging
from understudy.observability.log_tail import MAX_LINES, LogTail
from understudy.observability.logs import Logs


def test_a_reader_continues_after_the_last_line_it_received() -> None:
    tail = LogTail()
    tail.add("a\n")
    tail.add(b"b\n")
    seen = tail.count
    tail.add("\x1b[31mc\x1b[0m\n")

    assert tail.since(0) == ["a", "b", "c"]
    assert tail.since(seen) == ["c"]
    assert tail.since(tail.count) == []


def test_only_the_newest_lines_are_kept() -> None:
    tail = LogTail()
    for number in range(MAX_LINES + 10):
        tail.add(str(number))

    lines = tail.since(3)

    assert (len(lines), lines[0], lines[-1]) == (MAX_LINES, "10", str(MAX_LINES + 9))


def test_a_batch_counts_as_its_lines() -> None:
    tail = LogTail()
    tail.add("first\n")
    for number in range(0, MAX_LINES, 4):
        tail.add(b"".join(b"%d\n" % one for one in range(number, number + 4)), 4)

    lines = tail.since(0)

    assert (len(lines), lines[0], lines[-1]) == (MAX_LINES, "0", str(MAX_LINES - 1))
    assert tail.since(tail.count - 2) == lines[-2:]


def test_a_batch_of_more_lines_than_are_kept_leaves_the_newest() -> None:
    tail = LogTail()
    tail.add(b"".join(b"%d\n" % number for number in range(2 * MAX_LINES)), 2 * MAX_LINES)

    assert tail.since(0) == [str(number) for number in range(MAX_LINES, 2 * MAX_LINES)]


def test_every_written_line_is_in_the_tail_once() -> None:
    logs = Logs(Logging(format="json"), StringIO())
    with logs.held():
        structlog.get_logger().info("one.event")
    logs.write_batch(b'{"event":"batch"}\n', 1)

    lines = logs.tail.since(0)

    assert len(lines) == 2
    assert "one.event" in lines[0]
    assert lines[1] == '{"event":"batch"}'
