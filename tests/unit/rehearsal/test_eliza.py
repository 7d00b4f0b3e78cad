from itertools import pairwise
from random import Random

import pytest

from understudy.rehearsal.eliza import Line, answer


def said(*texts: str, seed: int = 1) -> str:
    lines = [Line(from_user=True, text=text) for text in texts]
    return answer(lines, name="Understudy", random=Random(seed))


def test_the_partner_turns_pronouns_around() -> None:
    assert "you can't find your keys" in said("I can't find my keys")


def test_the_partner_ignores_the_speakers_name_before_the_words() -> None:
    assert "Ann" not in said("Ann: I feel like leaving")
    assert "leaving" in said("[Ann]: I feel like leaving")


def test_the_partner_comes_back_to_an_earlier_line() -> None:
    answers = {said("We went to the lake today", "It was cold", seed=seed) for seed in range(20)}

    assert any("We went to the lake today" in text for text in answers)


def test_the_partner_has_more_than_one_line_for_the_same_cue() -> None:
    assert len({said("hello", seed=seed) for seed in range(20)}) >= 3


@pytest.mark.parametrize("text", ["", "?", "{it}", "{0}", "I feel {name}", "((("])
def test_odd_words_do_not_throw_the_partner(text: str) -> None:
    assert said(text)


def test_a_picture_is_noticed() -> None:
    lines = [Line(from_user=True, text="what is this?", images=1)]

    assert "picture" in answer(lines, name="U", random=Random(1))


@pytest.mark.parametrize("text", ["help", "hello", "so it goes", "give me a list", "sorry"])
def test_the_same_line_is_never_said_twice_in_a_row(text: str) -> None:
    lines: list[Line] = []
    for turn in range(12):
        lines.append(Line(from_user=True, text=text))
        lines.append(Line(from_user=False, text=answer(lines, name="U", random=Random(turn))))

    said = [line.text for line in lines if not line.from_user]
    assert all(before != after for before, after in pairwise(said))
