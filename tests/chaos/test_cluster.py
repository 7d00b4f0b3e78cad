"""The judge of `make chaos-cluster` finds each fault; a short run finds none."""

from pathlib import Path

import pytest

from chaos.cluster import run
from chaos.cluster_judge import Reply, Verdict, judge, wrong_calls, wrong_quota

ASKED = ["1", "2", "3", "4"]
GOOD = [Reply("a", "1"), Reply("b", "2"), Reply("a", "3"), Reply("b", "4")]


def test_one_reply_to_each_in_order_is_fine_also_across_channels() -> None:
    swapped = [GOOD[1], GOOD[0], GOOD[3], GOOD[2]]

    assert judge(ASKED, GOOD) == judge(ASKED, swapped) == Verdict((), (), ())


def test_a_lost_question_is_found() -> None:
    assert judge(ASKED, GOOD[:3]) == Verdict(("4",), (), ())


def test_a_doubled_reply_is_found() -> None:
    assert judge(ASKED, [*GOOD, Reply("b", "4")]) == Verdict((), ("4",), ())


def test_replies_out_of_order_are_found() -> None:
    assert judge(ASKED, [GOOD[2], *GOOD[:2], GOOD[3]]) == Verdict((), (), ("1",))


def test_a_key_that_got_more_than_its_limit_is_found() -> None:
    assert wrong_quota(201, 5, 200) == ["a key with 200 requests got 201 answers"]


def test_a_limit_that_was_never_reached_proves_nothing() -> None:
    assert wrong_quota(150, 0, 200)
    assert not wrong_quota(200, 1, 200)


def test_a_streak_a_call_of_each_instance_and_single_probes_are_fine() -> None:
    assert wrong_calls([0, 0.1, 0.2, 0.3, 0.3, 0.4, 5.5, 16, 37], instances=3) == []


@pytest.mark.parametrize(
    "calls", [[0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0, 0.1, 0.2, 6, 6.1], []], ids=str
)
def test_a_dead_server_that_is_called_too_often_or_never_is_found(calls: list[float]) -> None:
    assert wrong_calls(calls, instances=3)


@pytest.mark.slow
async def test_three_instances_answer_everything_once_while_they_fail(tmp_path: Path) -> None:
    verdict, _ = await run(60, 4, 3, tmp_path)

    assert (verdict.lost, verdict.doubled, verdict.disordered) == ((), (), ())
