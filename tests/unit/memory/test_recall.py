"""Recall: rare words of the question decide which earlier lines matter."""

from understudy.memory.recall import best_lines, words_to_find
from understudy.memory.store import COMMON, Found


def test_the_longest_words_are_looked_for_first() -> None:
    assert words_to_find(["What is my cat called?", "小爱"]) == (
        "called",
        "what",
        "cat",
        "is",
        "my",
        "小爱",
    )


def test_a_rare_word_counts_more_than_frequent_ones() -> None:
    chatter = tuple(range(2, 30))
    found = [Found("what", chatter), Found("is", (*chatter, 1)), Found("cat", (1,))]

    assert best_lines(found, known=()) == (1,)


def test_a_word_of_very_many_lines_counts_nothing() -> None:
    assert best_lines([Found("the", tuple(range(COMMON)))], known=()) == ()


def test_lines_that_are_known_are_left_out() -> None:
    assert best_lines([Found("cat", (2, 1))], known=[2]) == (1,)


def test_of_equal_lines_the_newest_comes_first() -> None:
    assert best_lines([Found("cat", (1, 2))], known=()) == (2, 1)


def test_nothing_found_is_nothing_recalled() -> None:
    assert best_lines([Found("cat", ())], known=()) == ()
