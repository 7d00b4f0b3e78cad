"""JSON lines made in batches hold what single log events hold."""

import asyncio
import io
import json

import msgspec
import pytest

from sample_records import NOON, answered, failed, reply, skipped
from understudy.config.settings import Logging
from understudy.errors import ErrorClass, HoldScope
from understudy.observability.events import (
    attempt_fields,
    attempt_level,
    reply_fields,
    reply_level,
)
from understudy.observability.logs import Logs
from understudy.observability.record_log import LogObserver
from understudy.routing.records import AttemptRecord, BreakerChange, SkipReason
from waiting import LIMIT_S

BREAKER = BreakerChange(HoldScope.MODEL, "closed", "open", 12.5)
RECORDS = (
    answered(),
    failed("chutes", ErrorClass.RATE_LIMITED),
    skipped("local", SkipReason.COOLDOWN),
    msgspec.structs.replace(answered(), degraded=("images", "more"), held_until=NOON + 5),
    msgspec.structs.replace(failed("a", ErrorClass.INTERNAL), breaker=BREAKER, error_text="é"),
    msgspec.structs.replace(answered(), usage=None, cost_usd=None),
)


def as_json(fields: object) -> object:
    return json.loads(msgspec.json.encode(fields))


@pytest.mark.parametrize("record", RECORDS)
async def test_a_line_holds_the_fields_of_the_event(record: AttemptRecord) -> None:
    out = io.StringIO()
    with LogObserver(Logs(Logging(level="debug"), out), wall=lambda: NOON) as observer:
        observer.attempt_ended(record)

    line = json.loads(out.getvalue())
    head = {"ts": line["ts"], "level": attempt_level(record), "event": "provider.attempt"}
    assert line == head | as_json(attempt_fields(record))  # type: ignore[operator]
    assert line["ts"] == "2026-09-21T14:13:20.000000Z"


async def test_lines_of_replies_and_attempts_are_written_together_in_order() -> None:
    out = io.StringIO()
    whole = reply(answered())
    with LogObserver(Logs(Logging(), out)) as observer:
        observer.attempt_ended(answered())
        observer.reply_ended(whole)
        assert out.getvalue() == ""

    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["event"] == "provider.attempt"
    head = {"ts": second["ts"], "level": reply_level(whole), "event": "reply.ended"}
    assert second == head | as_json(reply_fields(whole))  # type: ignore[operator]


async def test_lines_come_by_themselves_within_a_moment() -> None:
    class Output(io.StringIO):
        def flush(self) -> None:
            written.set()

    written, out = asyncio.Event(), Output()
    with LogObserver(Logs(Logging(), out)) as observer:
        observer.attempt_ended(answered())
        async with asyncio.timeout(LIMIT_S):
            await written.wait()

        assert "provider.attempt" in out.getvalue()


async def test_a_level_and_bound_fields_apply_to_batches_too() -> None:
    out = io.StringIO()
    logs = Logs(Logging(level="warning"), out)
    logs.bind(worker="2")
    with LogObserver(logs) as observer:
        observer.attempt_ended(answered())
        observer.attempt_ended(failed("a", ErrorClass.DNS))

    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["error_class"], line["worker"]) == ("dns", "2")
