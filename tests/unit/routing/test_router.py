"""The walk: in order, one attempt each, the next before anyone notices."""

import asyncio
import contextlib

import pytest

from understudy.errors import ErrorClass, Unreachable
from understudy.llm.messages import Finished, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from understudy.llm.testing import SILENCE, Pause, saying
from understudy.routing.records import (
    NextStep,
    Origin,
    Outcome,
    ReplyOutcome,
    SkipReason,
    describe_route,
)
from understudy.routing.request import Answering, SinkKind
from unit.routing.router_driver import (
    Observed,
    calls,
    candidate,
    events_of,
    left_open,
    reply,
    router,
    wanted,
)

DEAD = (Unreachable(ErrorClass.SERVER_ERROR, http_status=500),)
GOOD = saying("Hello", " there", usage=Usage(10, 2))


async def test_the_second_answers_when_the_first_is_down() -> None:
    first, second = candidate("a", DEAD), candidate("b", GOOD)

    seen = await reply(router([first, second]))

    assert seen.screen == seen.end.text == "Hello there"
    assert seen.story == ["a server_error", "b ok"]
    assert [a.next for a in seen.end.record.attempts] == [NextStep.FAILOVER, NextStep.DELIVER]
    assert seen.end.record.outcome is ReplyOutcome.DELIVERED


async def test_the_record_has_what_the_request_says_about_itself() -> None:
    asked = wanted(origin=Origin("web:c", "web:u"), purpose="summary", order_name="fast (chosen)")

    record = (await reply(router([candidate("a", GOOD)]), asked)).end.record

    request = asked.request
    assert (record.request_id, record.sink) == (request.id, request.sink)
    assert record.origin == request.origin
    assert (record.purpose, record.order_name) == ("summary", "fast (chosen)")


async def test_a_healthy_first_candidate_is_the_only_one_asked() -> None:
    first, second = candidate("a", GOOD), candidate("b", GOOD)

    await reply(router([first, second]))

    assert (calls(first), calls(second)) == (1, 0)


async def test_the_sink_is_told_who_answers_before_the_text() -> None:
    seen = await reply(router([candidate("a", DEAD), candidate("b", GOOD)]))

    kinds = [type(event) for event in seen.events]
    assert kinds.index(Answering) < kinds.index(TextDelta)
    assert next(e for e in seen.events if isinstance(e, Answering)).attempt == 2


async def test_a_candidate_without_a_key_is_left_out_with_a_record() -> None:
    off = candidate("a", GOOD, off=SkipReason.NO_KEY)

    seen = await reply(router([off, candidate("b", GOOD)]))

    assert seen.story == ["a no_key", "b ok"]
    assert calls(off) == 0


async def test_silence_costs_the_first_token_budget_and_not_more() -> None:
    silent = candidate("a", (SILENCE,))

    seen = await reply(router([silent, candidate("b", GOOD)]))

    assert seen.story == ["a first_token_timeout", "b ok"]
    assert seen.took_s == pytest.approx(20.0)
    assert left_open(silent) == 0


async def test_the_last_candidate_gets_all_the_time_that_is_left() -> None:
    late = candidate("b", (Pause(24), *GOOD))

    seen = await reply(router([candidate("a", (SILENCE,)), late]))

    assert seen.end.text == "Hello there"


async def test_a_gap_in_mid_stream_is_an_idle_timeout() -> None:
    stalled = candidate("a", (TextDelta("Hel"), SILENCE))

    seen = await reply(router([stalled, candidate("b", GOOD)]), wanted(SinkKind.HELD))

    assert seen.story == ["a idle_timeout", "b ok"]
    assert seen.end.text == "Hello there"
    assert seen.took_s == pytest.approx(20.0)


async def test_a_slow_but_steady_stream_is_left_alone() -> None:
    words = [step for n in range(30) for step in (Pause(3), TextDelta(f"{n} "))]

    seen = await reply(router([candidate("a", (*words, Finished("stop")))]))

    assert seen.story == ["a ok"]


async def test_a_slow_sink_is_not_taken_for_a_silent_model() -> None:
    model = router(
        [candidate("a", (TextDelta("one "), Pause(1), TextDelta("two"), Finished("stop")))]
    )

    texts = []
    async with contextlib.aclosing(events_of(model)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                texts.append(event.text)
                await asyncio.sleep(50)

    assert texts == ["one ", "two"]


async def test_an_empty_reply_is_a_failure() -> None:
    blank = candidate("a", (TextDelta("  \n"), Finished("stop")))

    seen = await reply(router([blank, candidate("b", GOOD)]))

    assert seen.story == ["a empty_reply", "b ok"]
    assert seen.screen == "Hello there"


async def test_a_tool_call_is_a_reply() -> None:
    call = ToolCallDelta(0, "c1", "look_up", "{}")

    seen = await reply(router([candidate("a", (call, Finished("tool_calls")))]))

    assert seen.story == ["a ok"]
    assert call in seen.events


async def test_thoughts_alone_are_no_reply() -> None:
    thinking = candidate("a", (ReasoningDelta("hm"), Finished("stop")))

    seen = await reply(router([thinking, candidate("b", GOOD)]))

    assert seen.story == ["a empty_reply", "b ok"]
    assert not [e for e in seen.events if isinstance(e, ReasoningDelta)]


async def test_a_stream_without_a_finish_has_failed() -> None:
    cut = candidate("a", (TextDelta("Hel"),))

    seen = await reply(router([cut, candidate("b", GOOD)]), wanted(shown=lambda: False))

    assert seen.story == ["a truncated_stream", "b ok"]
    assert seen.screen == "Hello there"


async def test_what_was_appended_is_never_joined_with_another_attempt() -> None:
    second = candidate("b", GOOD)
    cut = candidate("a", (TextDelta("Hel"), Unreachable(ErrorClass.TRUNCATED_STREAM)))

    seen = await reply(router([cut, second]), wanted(SinkKind.APPEND_ONLY))

    assert seen.screen == seen.end.text == "Hel"
    assert seen.end.record.outcome is ReplyOutcome.PARTIAL
    assert seen.end.error_class is ErrorClass.TRUNCATED_STREAM
    assert calls(second) == 0


async def test_a_cancelled_reply_closes_the_stream_and_leaves_one_record() -> None:
    watching, busy = Observed(), candidate("a", (TextDelta("Hel"), SILENCE))
    model = router([busy], None, watching)

    task = asyncio.create_task(reply(model))
    await asyncio.sleep(1)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert left_open(busy) == 0
    assert [a.outcome for a in watching.attempts] == [Outcome.CANCELLED]
    assert [r.outcome for r in watching.replies] == [ReplyOutcome.CANCELLED]


async def test_a_closed_reply_closes_the_stream_and_leaves_one_record() -> None:
    watching, busy = Observed(), candidate("a", (TextDelta("Hel"), SILENCE))

    async with contextlib.aclosing(events_of(router([busy], None, watching))) as events:
        await anext(events)

    assert left_open(busy) == 0
    assert [a.outcome for a in watching.attempts] == [Outcome.CANCELLED]
    assert [r.outcome for r in watching.replies] == [ReplyOutcome.CANCELLED]


async def test_a_bug_in_a_client_does_not_end_the_reply() -> None:
    buggy = candidate("a", (ValueError("oops"),))

    seen = await reply(router([buggy, candidate("b", GOOD)]))

    assert seen.story == ["a internal", "b ok"]


async def test_the_route_reads_as_a_story() -> None:
    seen = await reply(router([candidate("a", DEAD), candidate("b", GOOD)]))

    assert describe_route(seen.end.record.attempts) == (
        "server error: a · answered: b, 0.0 s, 10→2 tokens"
    )
