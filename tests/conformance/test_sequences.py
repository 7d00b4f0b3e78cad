"""What shows only over several requests, or when the one who asked has left."""

import asyncio
import logging

import pytest
import structlog

from conformance.subject import Sink, Wish
from conformance.table import FALLBACK, SCALED, Pace, stage
from conformance.understudy_subject import UnderstudyRouter

SHOWN, APPENDED, HELD = Wish(Sink.EDITABLE), Wish(Sink.APPEND_ONLY), Wish(Sink.HELD)
TOLERANCE_S = 1.0


@pytest.mark.parametrize("fault", ["e500", "reset", "e503", "html", "silent"])
async def test_ten_requests_cost_a_dead_primary_three_calls_at_most(fault: str) -> None:
    async with stage(UnderstudyRouter, fault, SCALED) as on:
        texts = [(await on.subject.ask(SHOWN)).text for _ in range(10)]

        assert texts == [FALLBACK] * 10
        assert 1 <= on.primary.calls <= 3


async def test_a_stopped_server_costs_two_requests_at_most_and_no_time() -> None:
    async with stage(UnderstudyRouter, "ok", SCALED) as on:
        await on.primary.go_down()
        outcomes = [await on.subject.ask(SHOWN) for _ in range(5)]

        assert [o.record[0] for o in outcomes] == ["connect_refused"] * 2 + ["cooldown"] * 3
        assert all(o.text == FALLBACK for o in outcomes)


@pytest.mark.parametrize(("fault", "held_s"), [("e429:4", 4), ("e429long", 30)])
async def test_retry_after_is_kept_and_delays_nobody(fault: str, held_s: float) -> None:
    async with stage(UnderstudyRouter, fault, SCALED) as on:
        first = await on.subject.ask(SHOWN)
        on.subject.pass_time(held_s - 1)
        during = [await on.subject.ask(SHOWN) for _ in range(3)]
        calls_during = on.primary.calls
        on.subject.pass_time(1.5)
        await on.subject.ask(SHOWN)

        assert (calls_during, on.primary.calls) == (1, 2)
        assert max(o.took_s for o in (first, *during)) < TOLERANCE_S


async def test_fifty_at_half_open_make_exactly_one_call() -> None:
    async with stage(UnderstudyRouter, "e429:4, ok:0.05", SCALED) as on:
        await on.subject.ask(SHOWN)
        on.subject.pass_time(4.5)
        outcomes = await asyncio.gather(*(on.subject.ask(SHOWN) for _ in range(50)))

        assert on.primary.calls == 2
        assert sum(o.text == FALLBACK for o in outcomes) == 49


async def test_both_rate_limited_is_offline_at_once_with_the_soonest_time() -> None:
    async with stage(UnderstudyRouter, "e429long", SCALED) as on:
        on.fallback.play("e429:20")
        outcome = await on.subject.ask(SHOWN)

        assert outcome.failed == "all_rate_limited"
        assert outcome.took_s < TOLERANCE_S
        assert outcome.retry_in_s == pytest.approx(20, abs=2)


async def test_comments_do_not_extend_the_budget() -> None:
    pace = Pace(first_token_s=1.2, word_s=0, at_once_s=1, late_s=1)
    async with stage(UnderstudyRouter, "comments", pace) as on:
        outcome = await on.subject.ask(APPENDED)

        assert outcome.record == ("first_token_timeout", "ok")
        assert outcome.took_s == pytest.approx(1.2, abs=TOLERANCE_S)


async def test_the_only_candidate_has_all_the_time_there_is() -> None:
    async with stage(UnderstudyRouter, "silent", SCALED, alone=True, commit_s=1.5) as on:
        outcome = await on.subject.ask(SHOWN)

        assert outcome.took_s == pytest.approx(1.5, abs=TOLERANCE_S)
        assert outcome.failed == "deadline"


@pytest.mark.parametrize("wish", [SHOWN, APPENDED, HELD], ids=lambda wish: wish.sink)
@pytest.mark.parametrize(
    ("phase", "after_text"),
    [("silent", False), ("hdrstall", False), ("rolestall", False), ("midstall", True)],
)
async def test_a_server_sees_at_once_that_the_caller_has_left(
    phase: str, wish: Wish, *, after_text: bool
) -> None:
    slow = Pace(first_token_s=30, word_s=0, at_once_s=1, late_s=1)
    async with stage(UnderstudyRouter, phase, slow) as on:
        if after_text and wish.sink is not Sink.HELD:
            left = await on.subject.abandon(wish, None)
        else:
            left = await on.subject.abandon(wish, on.primary.until(lambda seen: seen.calls == 1))
        await on.primary.until(lambda seen: bool(seen.disconnects), timeout_s=5)

        assert on.primary.disconnects[0].at - left < TOLERANCE_S
        assert on.fallback.calls == 0


async def test_no_key_is_ever_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as entries:
        for fault in ("e401", "e400", "html", "cut", "silent"):
            async with stage(UnderstudyRouter, fault, SCALED) as on:
                await on.subject.ask(SHOWN)

    everything = repr(entries) + caplog.text + "".join(capfd.readouterr())
    assert "sk-conformance-canary" not in everything
