"""A few hundred replies under random faults; `make soak` plays 10,000."""

from structlog.testing import capture_logs

from conformance.soak import ENGINES, UNHURRIED, is_right, soak
from sample_records import answered, failed
from understudy.errors import ErrorClass
from understudy.routing.records import AttemptRecord, NextStep, ReplyOutcome, ReplyRecord
from understudy.routing.request import ReplyEnded


async def test_random_faults_leave_no_connection_no_task_and_no_growing_memory() -> None:
    with capture_logs():
        seen = await soak(300, seed=7, limits=UNHURRIED)

    assert seen.is_clean, seen.line()
    assert seen.replies.total() == 300
    assert seen.faulted > 0


NAMES = [f"server{number}" for number in range(len(ENGINES))]
EMPTY = failed(NAMES[0], ErrorClass.EMPTY_REPLY, finish_reason="stop")
DOWN = [failed(name, ErrorClass.SERVER_ERROR) for name in NAMES]


def ended(
    *attempts: AttemptRecord, sink: str = "gateway", finish: str = "stop", took_ms: int = 80
) -> ReplyEnded:
    record = ReplyRecord(
        0.0, "r1", sink, ReplyOutcome.DELIVERED, attempts, attempts[0], t_total_ms=took_ms
    )
    return ReplyEnded(record, "", finish)


def test_an_empty_answer_is_right_only_for_a_program_that_no_server_answers() -> None:
    last = failed(NAMES[1], ErrorClass.SERVER_ERROR, next=NextStep.STOP)

    assert is_right(ended(EMPTY, *DOWN[1:]), [""])
    assert is_right(ended(EMPTY, took_ms=1000), [""])
    assert is_right(ended(EMPTY, last), [""])
    assert not is_right(ended(EMPTY), [""])
    assert not is_right(ended(EMPTY, *DOWN[1:], sink="web"), [""])
    assert not is_right(ended(EMPTY, *DOWN[1:], finish="length"), [""])
    assert not is_right(ended(EMPTY, *DOWN[1:]), ["some text"])
    assert not is_right(ended(EMPTY, *DOWN[1:3], answered(NAMES[3])), [""])
    assert not is_right(ended(DOWN[0], *DOWN[1:]), [""])
