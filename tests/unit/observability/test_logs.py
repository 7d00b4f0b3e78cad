import io
import json
import logging

import structlog

from sample_records import answered, failed
from understudy.config.settings import Logging
from understudy.errors import ErrorClass
from understudy.observability.events import ATTEMPT, TELLING, attempt_fields
from understudy.observability.logs import Logs
from understudy.observability.record_log import LogObserver
from understudy.routing.records import AttemptRecord


def test_off_a_terminal_each_event_is_one_json_line() -> None:
    out = io.StringIO()
    Logs(Logging(), out)

    structlog.get_logger("any").info("provider.attempt", provider="local", seconds=1.5)

    line = json.loads(out.getvalue())
    assert line.pop("ts")
    assert line == {
        "level": "info",
        "event": "provider.attempt",
        "provider": "local",
        "seconds": 1.5,
    }


def test_in_a_dialogue_a_warning_is_one_plain_line() -> None:
    out = io.StringIO()
    Logs(Logging(level="warning", format="json"), out, plain=True)

    log = structlog.get_logger("any")
    log.info("provider.attempt", provider="local")
    log.warning("model.missing", candidate="a", advice="Use model b.\nOr c.")
    log.warning("ledger.not_pruned")

    assert out.getvalue() == (
        "warning: model: missing (Use model b.)\nwarning: ledger: not pruned\n"
    )


def test_the_level_can_be_changed_while_loggers_are_in_use() -> None:
    out = io.StringIO()
    logs, log = Logs(Logging(), out), structlog.get_logger()

    log.debug("unseen")
    logs.set_level("debug")
    log.debug("seen")
    logs.set_level("error")
    log.warning("unseen")

    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["seen"]


def test_lines_that_come_while_they_are_held_back_appear_afterwards_in_order() -> None:
    out = io.StringIO()
    logs, log = Logs(Logging(format="console"), out), structlog.get_logger()

    with logs.held():
        log.info("one")
        with logs.held():
            log.info("two")
        assert out.getvalue() == ""

    assert out.getvalue().index("one") < out.getvalue().index("two")


def test_an_exception_is_logged_without_what_it_says() -> None:
    out = io.StringIO()
    Logs(Logging(), out)

    try:
        raise ValueError("a prompt")
    except ValueError:
        structlog.get_logger().exception("task.failed")

    line = json.loads(out.getvalue())
    assert line["exception"] == "ValueError"
    assert "test_logs.py" in line["stack"]
    assert "a prompt" not in out.getvalue()


def test_warnings_of_libraries_come_without_their_arguments() -> None:
    out = io.StringIO()
    Logs(Logging(), out)

    logging.getLogger("aiohttp").info("too fine")
    logging.getLogger("aiohttp").warning("cannot read %s", "a prompt")

    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["event"], line["library"]) == ("library.warning", "aiohttp")
    assert line["said"] == "cannot read %s"


def test_a_person_reads_what_matters_of_an_attempt_unless_they_debug() -> None:
    out = io.StringIO()
    logs, observer = Logs(Logging(format="console"), out), LogObserver()
    record = failed("one", ErrorClass.RATE_LIMITED)

    observer.attempt_ended(record)
    brief = out.getvalue()
    logs.set_level("debug")
    observer.attempt_ended(record)
    whole = out.getvalue()[len(brief) :]

    assert "candidate=one" in brief
    assert "error_class=rate_limited" in brief
    assert len(brief) < 250
    assert "reused_connection=" not in brief
    assert "reused_connection=" in whole


def test_the_fields_for_people_are_fields_that_there_are() -> None:
    of_usage = {"input_tokens", "output_tokens"}

    assert all(hasattr(AttemptRecord, name) for name in set(TELLING[ATTEMPT]) - of_usage)
    assert of_usage < set(attempt_fields(answered("one")))


class _FullDisk(io.StringIO):
    is_full = True

    def write(self, line: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(line)


def test_lines_that_cannot_be_written_are_dropped_and_counted() -> None:
    disk = _FullDisk()
    logs = Logs(Logging(format="json"), disk)
    logs.write("one\n")
    logs.write("two\n")

    disk.is_full = False
    logs.write("three\n")

    first, second = disk.getvalue().splitlines()
    assert first == "three"
    assert json.loads(second)["event"] == "log.lines_dropped"
    assert json.loads(second)["lines"] == 2


def test_a_warning_of_a_library_is_not_repeated_a_thousand_times() -> None:
    out = io.StringIO()
    Logs(Logging(format="json"), out)

    for _ in range(1000):
        logging.getLogger("asyncio").error("socket.accept() out of system resource")
    logging.getLogger("asyncio").error("another one")

    assert len(out.getvalue().splitlines()) == 2
