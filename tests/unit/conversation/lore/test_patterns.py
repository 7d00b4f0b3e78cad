"""Patterns of lorebooks: what they match, and what hostile ones may take."""

from collections.abc import AsyncIterator

import pytest

from understudy.conversation.lore.patterns import (
    INVALID,
    NO,
    SEARCHER_LIMITS,
    SKIPPED,
    SLOW,
    YES,
    Pattern,
    PatternAnswers,
    Patterns,
    search_all,
)
from understudy.workers.pool import WorkerPool

SLOW_BODY = "(a|aa)+$"
SLOW_TEXT = "a" * 200 + "!"
BOMB = "((((((a{300}){300}){300}){300}){300}){300})"


@pytest.fixture
async def searched() -> AsyncIterator[Patterns]:
    patterns = Patterns(WorkerPool("texts", SEARCHER_LIMITS))
    yield patterns
    assert patterns.pool is not None
    await patterns.pool.aclose()


async def found(patterns: Patterns, text: str, *bodies: str) -> list[str]:
    answers = PatternAnswers(patterns)
    wanted = [Pattern(body, "") for body in bodies]
    for pattern in wanted:
        answers.find(pattern, text)
    await answers.resolve()
    return [answers.find(pattern, text) for pattern in wanted]


async def test_patterns_are_searched_in_a_child_process(searched: Patterns) -> None:
    assert await found(searched, "the king", "k.ng", "qu", "(") == [YES, NO, INVALID]
    assert searched.pool is not None
    assert searched.pool.children == 1


async def test_nothing_is_known_of_a_text_before_it_was_searched(searched: Patterns) -> None:
    answers = PatternAnswers(searched)

    assert answers.find(Pattern("k.ng", ""), "the king") == SKIPPED
    assert await answers.resolve()
    assert not await answers.resolve()


async def test_a_quick_pattern_is_searched_in_a_later_text_at_once(searched: Patterns) -> None:
    answers = PatternAnswers(searched)
    answers.find(Pattern("k.ng", ""), "the queen")
    await answers.resolve()

    assert answers.find(Pattern("k.ng", ""), "the king") == YES


@pytest.mark.slow
async def test_slow_patterns_share_one_budget(searched: Patterns) -> None:
    bodies = [f"{SLOW_BODY}{'x' * at}" for at in range(60)]

    outcomes = await found(searched, SLOW_TEXT, *bodies)

    # 0.05 s each of 0.3 s; whole batches are searched.
    assert outcomes.count(SLOW) <= 16
    assert outcomes.count(SKIPPED) >= 44


@pytest.mark.slow
async def test_a_slow_pattern_is_given_up_after_three_times(searched: Patterns) -> None:
    for _ in range(3):
        await found(searched, SLOW_TEXT, SLOW_BODY)

    assert searched.given_up == (SLOW_BODY,)
    assert await found(searched, "aa", SLOW_BODY) == [SKIPPED]


@pytest.mark.slow
async def test_a_pattern_that_ends_its_process_takes_no_other_with_it(searched: Patterns) -> None:
    # `regex` does not look at its timeout while it compares these.
    endless = "(?i)" + "ſ" * 1900
    text = "s" * 60_000
    for _ in range(3):
        await found(searched, text, endless, "s+")

    assert searched.given_up == (endless,)
    assert await found(searched, text, endless, "s+") == [SKIPPED, YES]


def test_a_pattern_that_would_be_copied_too_often_is_not_compiled() -> None:
    assert [outcome for outcome, _ in search_all([(BOMB, "")], "a")] == [INVALID]


def test_without_a_pool_patterns_are_searched_here_within_the_budget() -> None:
    answers = PatternAnswers(Patterns())
    outcomes = [answers.find(Pattern(f"{SLOW_BODY}{'x' * at}", ""), SLOW_TEXT) for at in range(60)]

    assert outcomes.count(SLOW) <= 7
    assert outcomes.count(SKIPPED) >= 53
