"""Cooldowns: who is left out, for how long, and who may look again."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import ErrorClass, HoldScope
from understudy.routing.candidates import ScopeKey
from understudy.routing.cooldown import CooldownBoard, State
from understudy.routing.failure_policy import RULES, Opens

M = ScopeKey(HoldScope.MODEL, "a", "m")
E = ScopeKey(HoldScope.ENDPOINT, "a", "http://a")


def fail(
    board: CooldownBoard, error_class: ErrorClass, now: float, retry_after_s: float | None = None
) -> None:
    board.fail(M, RULES[error_class], error_class, now, retry_after_s=retry_after_s)


def held(board: CooldownBoard, now: float) -> bool:
    return board.availability((M, E), now).hold is not None


def test_three_failures_in_a_row_open_a_scope_and_two_do_not() -> None:
    board = CooldownBoard(Random(1))

    fail(board, ErrorClass.SERVER_ERROR, 0)
    fail(board, ErrorClass.SERVER_ERROR, 1)
    assert not held(board, 2)
    fail(board, ErrorClass.SERVER_ERROR, 2)

    assert held(board, 3)


def test_a_useful_reply_resets_the_count() -> None:
    board = CooldownBoard(Random(1))
    for now in (0.0, 1.0, 2.0):
        board.succeed((M,), now)
        fail(board, ErrorClass.SERVER_ERROR, now)
        board.succeed((M,), now)
        board.succeed((M,), now)

    assert not held(board, 3)


def test_half_of_five_within_a_minute_open_it_too() -> None:
    board = CooldownBoard(Random(1))
    for now in (0.0, 2.0, 4.0):
        fail(board, ErrorClass.SERVER_ERROR, now)
        board.succeed((M,), now + 1)
    fail(board, ErrorClass.SERVER_ERROR, 6)

    assert held(board, 6.5)


def test_holds_double_from_one_opening_to_the_next_up_to_the_cap() -> None:
    board = CooldownBoard(Random(1))
    now, lengths = 0.0, []
    for _ in range(8):
        change = board.fail(M, RULES[ErrorClass.OVERLOADED], ErrorClass.OVERLOADED, now)
        assert change is not None
        lengths.append(change.hold_s)
        now += change.hold_s + 0.1

    assert lengths[:4] == pytest.approx([5, 10, 20, 40], rel=0.21)
    assert lengths[-1] == 120


def test_attempts_that_fail_together_raise_the_level_once() -> None:
    board = CooldownBoard(Random(1))
    for _ in range(10):
        fail(board, ErrorClass.RATE_LIMITED, 0)
    until = board.holds(0)[0].until

    change = board.fail(M, RULES[ErrorClass.RATE_LIMITED], ErrorClass.RATE_LIMITED, until)

    assert change is not None
    assert change.hold_s == pytest.approx(20, rel=0.21)


def test_retry_after_is_kept_exactly_and_never_shortened() -> None:
    board = CooldownBoard(Random(1))
    fail(board, ErrorClass.RATE_LIMITED, 0, retry_after_s=30)
    fail(board, ErrorClass.RATE_LIMITED, 1, retry_after_s=2)

    assert held(board, 29.9)
    assert not held(board, 30.1)


@pytest.mark.parametrize(("told", "kept"), [(0.2, 1), (86_400, 3600)])
def test_retry_after_is_clamped(told: float, kept: float) -> None:
    board = CooldownBoard(Random(1))
    fail(board, ErrorClass.RATE_LIMITED, 0, retry_after_s=told)

    assert board.holds(0)[0].until == kept


def test_half_open_gives_one_lease_that_expires_by_itself() -> None:
    board = CooldownBoard(Random(1))
    fail(board, ErrorClass.RATE_LIMITED, 0, retry_after_s=5)

    assert board.availability((M,), 6).probes == (M,)
    board.lease((M,), 20)
    assert held(board, 7)
    assert held(board, 19.9)
    assert board.availability((M,), 21).probes == (M,)


def test_a_lease_given_back_lets_the_next_one_probe() -> None:
    board = CooldownBoard(Random(1))
    fail(board, ErrorClass.RATE_LIMITED, 0, retry_after_s=5)
    board.lease((M,), 20)

    board.release((M,))

    assert board.availability((M,), 6).probes == (M,)


def test_a_failed_probe_opens_again_at_the_first_failure() -> None:
    board = CooldownBoard(Random(1))
    for now in range(3):
        fail(board, ErrorClass.SERVER_ERROR, now)
    assert board.state(M, 30) is State.HALF_OPEN

    fail(board, ErrorClass.SERVER_ERROR, 30)

    assert board.state(M, 31) is State.OPEN


def test_a_good_probe_closes() -> None:
    board = CooldownBoard(Random(1))
    fail(board, ErrorClass.RATE_LIMITED, 0, retry_after_s=5)
    board.lease((M,), 20)

    board.succeed((M, E), 6)

    assert board.state(M, 6) is State.CLOSED


def test_levels_sink_in_quiet_times() -> None:
    board = CooldownBoard(Random(1))
    for now in (0, 200, 400):
        fail(board, ErrorClass.OVERLOADED, now)

    change = board.fail(M, RULES[ErrorClass.OVERLOADED], ErrorClass.OVERLOADED, 5000)

    assert change is not None
    assert change.hold_s == pytest.approx(5, rel=0.21)


def test_an_operator_can_reset_one_scope_or_all() -> None:
    board = CooldownBoard(Random(1))
    fail(board, ErrorClass.AUTH, 0)
    board.fail(E, RULES[ErrorClass.LOADING], ErrorClass.LOADING, 0)

    assert board.reset(M) == [M]
    assert held(board, 1)
    assert board.reset() == [E]
    assert not held(board, 1)


FAILING = [c for c in ErrorClass if RULES[c].opens is not Opens.NEVER]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.floats(0, 400),
            st.sampled_from(FAILING) | st.none(),
            st.none() | st.floats(-5, 1e6),
        ),
        max_size=40,
    )
)
def test_a_hold_is_never_shortened_but_by_success(
    steps: list[tuple[float, ErrorClass | None, float | None]],
) -> None:
    board, now, until = CooldownBoard(Random(1)), 0.0, 0.0
    for wait, error_class, retry_after_s in steps:
        now += wait
        if error_class is None:
            board.succeed((M,), now)
            until = 0.0
        else:
            fail(board, error_class, now, retry_after_s)
        holds = [hold.until for hold in board.holds(now)]
        assert max(holds, default=0.0) >= (until if until > now else 0.0)
        assert all(hold <= now + 3600 for hold in holds)
        until = max(holds, default=0.0)
