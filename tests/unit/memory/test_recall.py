"""Recall: rare words of the question decide which earlier lines matter."""

from sample_lines import line
from understudy.memory.recall import COMMON, best_lines, words_to_find
from understudy.memory.store import Found


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
    cat, chatter = line(1, "my cat is Whiskers"), [line(n, "what is that") for n in range(2, 30)]
    found = [
        Found("what", tuple(chatter)),
        Found("is", (*chatter, cat)),
        Found("cat", (cat,)),
    ]

    assert best_lines(found, known=()) == (cat,)


def test_a_word_of_very_many_lines_counts_nothing() -> None:
    many = tuple(line(n, "the") for n in range(COMMON))

    assert best_lines([Found("the", many)], known=()) == ()


def test_lines_that_the_prompt_has_are_left_out() -> None:
    first, second = line(1, "cat"), line(2, "cat again")

    assert best_lines([Found("cat", (second, first))], known=[2]) == (first,)


def test_of_equal_lines_the_newest_comes_first() -> None:
    first, second = line(1, "cat"), line(2, "cat again")

    assert best_lines([Found("cat", (first, second))], known=()) == (second, first)


def test_nothing_found_is_nothing_recalled() -> None:
    assert best_lines([Found("cat", ())], known=()) == ()
