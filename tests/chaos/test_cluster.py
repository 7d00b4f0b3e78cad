"""The judge of `make chaos-cluster` finds each fault; a short run finds none."""

from pathlib import Path

import pytest

from chaos.cluster import Reply, Verdict, judge, run

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


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_three_instances_answer_everything_once_while_they_fail(tmp_path: Path) -> None:
    verdict, done = await run(30, 4, 3, tmp_path)

    assert verdict == Verdict((), (), ())
    assert sum(done.values()) == 4
