"""What each class of failure holds, after how many, for how long, and what may follow it."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import ErrorClass, HoldScope, leaf_of
from understudy.routing.candidates import ScopeKey
from understudy.routing.cooldown import CooldownBoard, State
from understudy.routing.failure_policy import RULES, STOPS, Rule, rule_for
from understudy.routing.retries import backoff_s

E, K, M = HoldScope.ENDPOINT, HoldScope.KEY, HoldScope.MODEL
C = ErrorClass

# class: scope, failures in a row that open it (hosted, at home), first hold in s (hosted, at
# home), the longest hold.
HOLDS = {
    C.CONNECT_REFUSED: (E, (2, 1), (15, 5), 120),
    C.DNS: (E, (2, 1), (15, 5), 120),
    C.TLS: (E, (2, 1), (15, 5), 120),
    C.CONNECT_TIMEOUT: (E, (3, 3), (15, 5), 120),
    C.FIRST_TOKEN_TIMEOUT: (M, (1, 1), (10, 10), 120),
    C.IDLE_TIMEOUT: (M, (3, 3), (10, 10), 120),
    C.TOTAL_TIMEOUT: (M, (3, 3), (10, 10), 120),
    C.TRUNCATED_STREAM: (E, (3, 3), (5, 5), 120),
    C.BAD_FRAME: (E, (3, 3), (5, 5), 5),
    C.BAD_BODY: (E, (3, 3), (15, 15), 120),
    C.SERVER_ERROR: (M, (3, 3), (5, 5), 120),
    C.OVERLOADED: (M, (1, 1), (5, 5), 120),
    C.LOADING: (E, (1, 1), (2, 2), 2),
    C.RATE_LIMITED: (K, (1, 1), (10, 10), 300),
    C.QUOTA: (K, (1, 1), (900, 900), 900),
    C.AUTH: (K, (1, 1), (600, 600), 600),
    C.MODEL_GONE: (M, (1, 1), (1800, 1800), 1800),
    C.EMPTY_REPLY: (M, (3, 3), (10, 10), 120),
    C.GARBAGE: (M, (3, 3), (10, 10), 120),
}
NEVER_HELD = set(C) - set(HOLDS)
ONLY_THE_OPERATOR = {C.QUOTA, C.AUTH, C.MODEL_GONE}
NOT_FORCED = ONLY_THE_OPERATOR | {C.RATE_LIMITED}


class NoJitter(Random):
    def random(self) -> float:
        return 0.5


def rule(error_class: ErrorClass, *, local: bool) -> Rule:
    return rule_for(leaf_of(error_class)(error_class), local=local, useful_output=False)


def held_s(board: CooldownBoard, error_class: ErrorClass, now: float, *, local: bool) -> float:
    """Fail once; for how long that holds, or 0."""
    key = ScopeKey(M, "p", "m")
    change = board.fail(key, rule(error_class, local=local), error_class, now)
    return 0.0 if change is None else change.hold_s


@pytest.mark.parametrize("local", [False, True], ids=["hosted", "at home"])
@pytest.mark.parametrize("error_class", HOLDS)
def test_a_class_opens_its_scope_after_so_many_and_holds_it_so_long(
    error_class: ErrorClass, local: bool
) -> None:
    scope, counts, holds, longest = HOLDS[error_class]
    board, now = CooldownBoard(NoJitter()), 0.0
    lengths = [held_s(board, error_class, now, local=local) for _ in range(counts[local])]
    for _ in range(9):
        now += lengths[-1] + 1
        lengths.append(held_s(board, error_class, now, local=local))

    first = holds[local]
    doubling = [min(first * 2**level, longest) for level in range(10)]
    assert rule(error_class, local=local).scope is scope
    assert lengths == [0.0] * (counts[local] - 1) + doubling


@pytest.mark.parametrize("error_class", sorted(NEVER_HELD))
def test_what_says_nothing_of_a_server_never_leaves_one_out(error_class: ErrorClass) -> None:
    assert rule(error_class, local=True).scope is None
    assert rule(error_class, local=False).scope is None


def test_a_reply_that_ran_into_the_total_limit_while_speaking_is_no_fault_of_the_model() -> None:
    error = leaf_of(C.TOTAL_TIMEOUT)(C.TOTAL_TIMEOUT)

    assert rule_for(error, local=False, useful_output=True).scope is None


def test_only_what_the_operator_can_mend_is_alerted() -> None:
    assert {c for c in C if RULES[c].alerts} == ONLY_THE_OPERATOR


def test_what_will_not_pass_in_a_moment_is_neither_forced_nor_retried() -> None:
    lasting = {c for c in HOLDS if not RULES[c].transient}

    assert lasting == NOT_FORCED | {C.EMPTY_REPLY, C.GARBAGE}
    for error_class in NOT_FORCED:
        error = leaf_of(error_class)(error_class)
        assert backoff_s(error, dice=0.5, remaining_s=100) is None


def test_nobody_else_is_asked_after_a_refusal_or_a_cancel_alone() -> None:
    assert {C.REFUSAL, C.CANCELLED} == STOPS


@pytest.mark.slow
@given(st.sampled_from(list(HOLDS)), st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_hold_is_jittered_by_a_fifth_at_most(error_class: ErrorClass, dice: list[float]) -> None:
    class Dice(Random):
        def random(self) -> float:
            return dice[0]

    _, counts, holds, longest = HOLDS[error_class]
    board = CooldownBoard(Dice())
    for _ in range(counts[0] - 1):
        held_s(board, error_class, 0.0, local=False)
    hold = held_s(board, error_class, 0.0, local=False)

    assert 0.8 * holds[0] <= hold <= min(1.2 * holds[0], longest) or hold == longest
    assert board.state(ScopeKey(M, "p", "m"), 0.0) is State.OPEN
