"""What shows only over several requests, or when the one who asked has left."""

import logging

import pytest
import structlog

from conformance.figures import (
    DEAD,
    PHASES,
    SHOWN,
    both_rate_limited,
    comments_only,
    fifty_at_half_open,
    seen_leaving,
    ten_requests,
    while_held,
)
from conformance.gateway_subject import WAYS
from conformance.server_rows import BY_FAULT
from conformance.slow_clients import STREAMED, is_whole, never_read
from conformance.table import FALLBACK, PATIENT, SHORT, Way, scaled, stage
from conformance.understudy_subject import UnderstudyRouter

SOON_S = 60.0
"""Less than any limit or wait that a test could run into by mistake, on any machine."""


@pytest.mark.parametrize("fault", DEAD)
async def test_ten_requests_cost_a_dead_primary_three_calls_at_most(fault: str) -> None:
    calls, outcomes = await ten_requests(UnderstudyRouter, fault, scaled(BY_FAULT[fault]))

    assert [outcome.text for outcome in outcomes] == [FALLBACK] * 10
    assert 1 <= calls <= 3


async def test_a_stopped_server_costs_two_requests_at_most_and_no_time() -> None:
    async with stage(UnderstudyRouter, "ok", PATIENT) as on:
        await on.primary.go_down()
        outcomes = [await on.subject.ask(SHOWN) for _ in range(5)]

        assert [o.record[0] for o in outcomes] == ["connect_refused"] * 2 + ["cooldown"] * 3
        assert all(o.text == FALLBACK for o in outcomes)


@pytest.mark.parametrize(("fault", "held_s"), [("e429:4", 4), ("e429long", 30)])
async def test_retry_after_is_kept_and_delays_no_other_reply(fault: str, held_s: float) -> None:
    async with stage(UnderstudyRouter, fault, PATIENT) as on:
        first = await on.subject.ask(SHOWN)
        on.subject.pass_time(held_s - 1)
        during = [await on.subject.ask(SHOWN) for _ in range(3)]
        calls_during = on.primary.calls
        on.subject.pass_time(1.5)
        await on.subject.ask(SHOWN)

        assert (calls_during, on.primary.calls) == (1, 2)
        assert max(o.took_s for o in (first, *during)) < SOON_S


async def test_ten_requests_while_a_primary_is_held_call_it_once_and_wait_for_nothing() -> None:
    calls, outcomes = await while_held(UnderstudyRouter, PATIENT)

    assert calls == 1
    assert max(outcome.took_s for outcome in outcomes) < SOON_S


async def test_fifty_at_half_open_make_exactly_one_call() -> None:
    calls, outcomes = await fifty_at_half_open(UnderstudyRouter, PATIENT)

    assert calls == 1
    assert sum(outcome.text == FALLBACK for outcome in outcomes) == 49


async def test_both_rate_limited_is_offline_at_once_with_the_soonest_time() -> None:
    for outcome in await both_rate_limited(UnderstudyRouter, PATIENT):
        assert outcome.failed == "all_rate_limited"
        assert outcome.took_s < SOON_S
        assert outcome.retry_in_s is not None
        assert outcome.retry_in_s <= 20


async def test_comments_do_not_extend_the_budget() -> None:
    outcome, let_s = await comments_only(UnderstudyRouter, 0.6)

    assert outcome.record == ("first_token_timeout", "ok")
    assert 0.6 <= outcome.took_s < SOON_S
    assert 0.6 <= let_s < SOON_S


async def test_the_only_candidate_has_all_the_time_there_is() -> None:
    async with stage(UnderstudyRouter, "silent", SHORT, alone=True, commit_s=1.5) as on:
        outcome = await on.subject.ask(SHOWN)

        assert 1.5 <= outcome.took_s < SOON_S
        assert outcome.failed == "deadline"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("fault", PHASES.values(), ids=PHASES)
async def test_a_server_sees_at_once_that_the_caller_has_left(fault: str, way: Way) -> None:
    assert await seen_leaving(way, fault) < SOON_S


@pytest.mark.parametrize("way", STREAMED, ids=lambda way: way.name)
async def test_clients_that_never_read_stop_the_server_and_no_other_client(way: Way) -> None:
    seen = await never_read(way, clients=5)

    assert is_whole(seen.other)
    assert seen.left_s < SOON_S


async def test_no_key_is_ever_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as entries:
        for fault in ("e401", "e400", "html", "cut", "silent"):
            async with stage(UnderstudyRouter, fault, scaled(BY_FAULT[fault])) as on:
                await on.subject.ask(SHOWN)

    everything = repr(entries) + caplog.text + "".join(capfd.readouterr())
    assert "sk-conformance-canary" not in everything
