"""What time is spent on whom: silence, thoughts, queues and the share of those who come later."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autojump import AutojumpLoop
from understudy.errors import ErrorClass, RateLimited, Unreachable
from understudy.llm.messages import Finished, ReasoningDelta, TextDelta
from understudy.llm.testing import SILENCE, Pause, Script, saying
from understudy.routing.attempt import Attempt
from understudy.routing.environment import RouterEnvironment, RouterRules
from understudy.routing.records import AttemptRole, OfflineReason
from understudy.routing.request import Fit, HeldSink
from understudy.routing.router import ModelRouter
from understudy.routing.selection import AttemptPlan
from understudy.routing.timeouts import (
    MIN_SHARE_S,
    AttemptTimers,
    Budget,
    Deadline,
    Limits,
)
from unit.routing.router_driver import calls, candidate, hello, left_open, reply, router, wanted


class AlmostASecond(Random):
    """Throws the dice so that the wait before a second try is 0.9 s."""

    def random(self) -> float:
        return 0.5


GOOD = saying("Hello", " there")


async def test_thoughts_are_signs_of_life() -> None:
    thinking: Script = tuple(step for _ in range(3) for step in (Pause(15), ReasoningDelta("hm ")))[
        :-2
    ]
    slow = candidate("a", (*thinking, Pause(8), *GOOD))

    assert (await reply(router([slow, candidate("b", GOOD)]))).story == ["a ok"]


async def test_a_stall_after_the_first_word_is_noticed_long_before_the_first_word_was_due() -> None:
    stalls = candidate(
        "a", (Pause(2), TextDelta("well "), SILENCE), limits=Limits(first_token_s=40, idle_s=3)
    )

    seen = await reply(router([stalls, candidate("b", GOOD)]))

    assert seen.story == ["a idle_timeout", "b ok"]
    assert seen.took_s == pytest.approx(5.0)


@pytest.mark.parametrize("nothing", [TextDelta(""), ReasoningDelta("")])
async def test_empty_pieces_are_not(nothing: TextDelta | ReasoningDelta) -> None:
    chatty: Script = tuple(step for _ in range(60) for step in (Pause(1), nothing))

    seen = await reply(router([candidate("a", (*chatty, *GOOD)), candidate("b", GOOD)]))

    assert seen.story == ["a first_token_timeout", "b ok"]
    assert seen.took_s == pytest.approx(20.0)


async def test_attempts_with_equal_limits_end_each_at_its_own_time() -> None:
    silent = candidate("a", (SILENCE,), limits=Limits(first_token_s=10, strict=True))
    model = router([silent], RouterRules(max_attempts=1))

    async def took_s(after_s: float) -> float:
        await asyncio.sleep(after_s)
        return (await reply(model)).took_s

    first_s, second_s = await asyncio.gather(took_s(0), took_s(4))

    assert first_s == pytest.approx(10.0)
    assert second_s == pytest.approx(10.0)


async def test_an_error_in_one_attempt_leaves_the_others_their_limits() -> None:
    loop = asyncio.get_running_loop()
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    checked: list[float] = []

    class Checked:
        def clock(self) -> float:
            return loop.time()

        def check(self) -> None:
            checked.append(loop.time())

    class Broken(Checked):
        def check(self) -> None:
            raise ValueError

    timers, start = AttemptTimers(), loop.time()
    timers.watch(Broken(), start, 5.0)
    timers.watch(Checked(), start, 5.0)
    await asyncio.sleep(6)

    assert [type(error) for error in errors] == [ValueError]
    assert checked == [pytest.approx(start + 5.0)]


async def test_an_attempt_has_a_limit_of_its_own_for_the_whole_reply() -> None:
    words: Script = tuple(step for _ in range(40) for step in (Pause(1), TextDelta("well ")))
    wordy = candidate("a", (*words, Finished("stop")), limits=Limits(total_s=10))

    seen = await reply(router([wordy, candidate("b", GOOD)]))

    assert seen.story == ["a total_timeout", "b ok"]
    assert seen.took_s == pytest.approx(10.0)


async def test_the_total_deadline_ends_a_reply_that_still_speaks() -> None:
    words: Script = tuple(step for _ in range(60) for step in (Pause(1), TextDelta("well ")))
    second = candidate("b", GOOD)
    rules = RouterRules(deadline=Deadline(total_s=30))

    seen = await reply(router([candidate("a", (*words, Finished("stop"))), second], rules))

    assert seen.took_s == pytest.approx(30.0)
    assert seen.end.text == "well " * 29
    assert calls(second) == 0


async def test_a_reply_that_ran_out_of_time_before_its_first_word_is_no_refused_one() -> None:
    thinks: Script = tuple(step for _ in range(60) for step in (Pause(1), ReasoningDelta("hm")))
    rules = RouterRules(deadline=Deadline(total_s=30))

    seen = await reply(router([candidate("a", thinks), candidate("b", thinks)], rules))

    assert seen.took_s == pytest.approx(30.0)
    assert seen.end.record.offline_reason is OfflineReason.DEADLINE


async def test_when_time_ran_out_those_who_rest_do_not_say_when_to_come_again() -> None:
    thinks: Script = tuple(step for _ in range(60) for step in (Pause(1), ReasoningDelta("hm")))
    limited = candidate("b", (RateLimited(ErrorClass.RATE_LIMITED, retry_after_s=3600.0),))
    model = router([candidate("a", thinks), limited], RouterRules(deadline=Deadline(total_s=30)))
    await reply(model, wanted(order=("b",)))

    seen = await reply(model)

    assert (seen.end.record.offline_reason, seen.end.record.retry_at) == ("deadline", None)


async def test_who_rests_has_no_share_so_the_last_usable_one_gets_all() -> None:
    limited = candidate("b", (RateLimited(ErrorClass.RATE_LIMITED, retry_after_s=300.0),))
    model = router([candidate("a", (SILENCE,)), limited])
    await reply(model, wanted(order=("b",)))

    seen = await reply(model)

    assert seen.end.record.attempts[0].budget_ms == 45_000


async def test_a_wait_that_took_too_long_leaves_no_attempt_without_a_limit() -> None:
    """A busy process wakes up late: the second try's time is over before it begins."""
    loop = asyncio.get_running_loop()
    down = candidate("a", (Unreachable(ErrorClass.SERVER_ERROR),), (SILENCE,))
    late = RouterEnvironment(
        clock=lambda: loop.time() * 1.2, wall=lambda: 1e9, random=AlmostASecond()
    )
    model = ModelRouter([down], RouterRules(deadline=Deadline(1.0, 30)), instruments=late)

    seen = await reply(model)

    assert seen.story == ["a server_error"]
    assert seen.end.record.offline_reason is OfflineReason.DEADLINE
    assert seen.took_s < 1.5


@pytest.mark.parametrize("left_s", [0.0, -0.03])
async def test_an_attempt_without_any_time_left_does_not_begin(left_s: float) -> None:
    one, clock = candidate("a", GOOD), asyncio.get_running_loop().time
    spent = Budget(first_token_s=left_s, visible_s=left_s, idle_s=20, total_s=29, check_s=left_s)
    request = wanted().request
    plan = AttemptPlan(one, AttemptRole.NORMAL, hello(Fit(None, 512, True, 0.3)), spent)
    attempt = Attempt(plan, request, HeldSink(), None, clock, AttemptTimers(), 1)

    attempt.start()

    assert attempt.error_class is ErrorClass.QUEUE_TIMEOUT
    assert calls(one) == 0


@pytest.mark.slow
@given(st.lists(st.floats(0.5, 60), min_size=1, max_size=5), st.floats(5, 60))
def test_however_patient_the_first_ones_are_everybody_is_asked_in_time(
    patience: list[float], commit_s: float
) -> None:
    async def scene() -> None:
        silent = [
            candidate(f"p{n}", (SILENCE,), limits=Limits(first_token_s=limit, idle_s=limit))
            for n, limit in enumerate(patience)
        ]
        rules = RouterRules(deadline=Deadline(commit_s, 180))

        seen = await reply(router([*silent, candidate("last", GOOD)], rules))

        if commit_s > MIN_SHARE_S * len(patience) + 1:
            assert seen.screen == "Hello there"
        assert seen.took_s <= commit_s + 0.001
        assert not any(map(left_open, silent))

    with asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        runner.run(scene())
