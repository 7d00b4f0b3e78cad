"""What is said when every provider failed."""

import pytest

from understudy.config.settings import Offline
from understudy.conversation.offline_message import in_words, next_try_at, offline_text
from understudy.routing.records import OfflineReason


@pytest.mark.parametrize(
    ("wait_s", "words"),
    [
        (None, "in a little while"),
        (-5, "in a moment"),
        (10, "in a moment"),
        (59, "in less than a minute"),
        (60, "in about 1 minute"),
        (61, "in about 2 minutes"),
        (3600, "in about 1 hour"),
        (5000, "in about 2 hours"),
        (100_000, "tomorrow"),
        (400_000, "in a few days"),
    ],
)
def test_a_wait_is_told_as_people_tell_it(wait_s: float | None, words: str) -> None:
    assert in_words(wait_s) == words


@pytest.mark.parametrize("reason", OfflineReason)
def test_there_are_words_for_every_reason(reason: OfflineReason) -> None:
    text = offline_text(Offline(), reason, 90)

    assert text
    assert "{" not in text


def test_the_operators_braces_stay_as_they_are() -> None:
    settings = Offline(all_down="{when} {name} {}")

    assert offline_text(settings, OfflineReason.ALL_DOWN, 5) == "in a moment {name} {}"


@pytest.mark.parametrize(
    ("reason", "recovery_at", "expected"),
    [
        (OfflineReason.ALL_RATE_LIMITED, 130.0, 130.0),
        (OfflineReason.ALL_DOWN, None, 160.0),
        (OfflineReason.ALL_DOWN, 90.0, 105.0),
        (OfflineReason.BUDGET, 9000.0, None),
        (OfflineReason.REJECTED, 130.0, None),
        (OfflineReason.NO_CAPABLE, None, None),
        # A server in cooldown may be able to answer.
        (OfflineReason.NO_CAPABLE, 130.0, 130.0),
    ],
)
def test_a_late_answer_is_tried_when_it_can_help(
    reason: OfflineReason, recovery_at: float | None, expected: float | None
) -> None:
    assert next_try_at(reason, recovery_at, give_up_at=1900.0, now=100.0) == expected
