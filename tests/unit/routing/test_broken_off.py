"""Text that people have seen breaks off: what stays, what is replaced, and how often."""

import pytest

from reply_events import Restarted
from understudy.errors import ErrorClass, Rejected, Unreachable, leaf_of
from understudy.llm.messages import Finished, TextDelta, ToolCallDelta
from understudy.llm.testing import SILENCE, Pause, Script, saying
from understudy.routing.environment import RouterRules
from understudy.routing.records import AttemptRole, OfflineReason, ReplyOutcome
from understudy.routing.request import SinkKind
from understudy.routing.timeouts import Deadline, Limits
from unit.routing.router_driver import calls, candidate, reply, router, wanted

GOOD = saying("Hello", " there")


def failing(error_class: ErrorClass) -> Script:
    return (leaf_of(error_class)(error_class),)


CUT: Script = (TextDelta("Half of"), Unreachable(ErrorClass.TRUNCATED_STREAM))


async def test_what_people_saw_break_off_is_replaced_once() -> None:
    seen = await reply(router([candidate("a", CUT), candidate("b", GOOD)]))

    kinds = [type(event) for event in seen.events]
    assert seen.screen == "Hello there"
    assert kinds.count(Restarted) == 1
    assert [a.role for a in seen.end.record.attempts] == [AttemptRole.NORMAL, AttemptRole.RESTART]
    assert seen.end.record.attempts[0].committed


@pytest.mark.parametrize("kind", [SinkKind.EDITABLE, SinkKind.HELD])
async def test_after_text_broke_off_silence_is_borne_no_longer_than_before_it(
    kind: SinkKind,
) -> None:
    cut: Script = (Pause(1), *CUT)
    seen = await reply(router([candidate("a", cut), candidate("b", (SILENCE,))]), wanted(kind))

    assert seen.story[:2] == ["a truncated_stream", "b first_token_timeout"]
    assert seen.took_s == pytest.approx(1 + 45.0)


async def test_when_the_second_breaks_off_too_the_longer_part_stays() -> None:
    shorter: Script = (TextDelta("Hm"), Unreachable(ErrorClass.TRUNCATED_STREAM))
    third = candidate("c", GOOD)

    seen = await reply(router([candidate("a", CUT), candidate("b", shorter), third]))

    assert seen.end.text == "Half of"
    assert seen.end.record.outcome is ReplyOutcome.PARTIAL
    assert calls(third) == 0


async def test_a_garbled_part_never_stays_before_one_that_can_be_read() -> None:
    garbled = candidate("a", (TextDelta("\ufffd" * 60), Finished("stop")))

    seen = await reply(router([garbled, candidate("b", CUT)]))

    assert seen.story == ["a garbage", "b truncated_stream"]
    assert seen.end.text == "Half of"


async def test_the_part_stays_on_the_screen_until_other_text_has_come() -> None:
    seen = await reply(
        router([candidate("a", CUT), candidate("b", failing(ErrorClass.SERVER_ERROR))])
    )

    assert seen.screen == seen.end.text == "Half of"
    assert not [event for event in seen.events if isinstance(event, Restarted)]


async def test_a_long_part_that_ends_with_a_sentence_is_good_enough() -> None:
    text = "All is well in the end. " * 30
    second = candidate("b", GOOD)
    long: Script = (TextDelta(text), Unreachable(ErrorClass.TRUNCATED_STREAM))

    seen = await reply(router([candidate("a", long), second]))

    assert seen.end.text == text
    assert calls(second) == 0


async def test_nothing_that_was_not_shown_counts_as_begun() -> None:
    unseen = wanted(shown=lambda: False)
    attempts = [candidate(name, CUT) for name in "abc"]

    seen = await reply(router([*attempts, candidate("d", GOOD)]), unseen)

    assert seen.screen == "Hello there"
    assert [a.role for a in seen.end.record.attempts] == [AttemptRole.NORMAL] * 4


async def test_a_held_reply_is_whole_or_not_at_all() -> None:
    seen = await reply(router([candidate("a", CUT), candidate("b", GOOD)]), wanted(SinkKind.HELD))
    never = await reply(
        router([candidate("a", CUT)], RouterRules(max_attempts=1)), wanted(SinkKind.HELD)
    )

    assert seen.screen == "Hello there"
    assert never.end.record.outcome is ReplyOutcome.OFFLINE
    assert never.screen == never.end.text == ""


@pytest.mark.parametrize(("rest_s", "restarts"), [(9.5, False), (10.5, True)])
async def test_there_is_no_restart_without_ten_seconds_left(rest_s: float, restarts: bool) -> None:
    words = [step for _ in range(20) for step in (Pause(1), TextDelta("well "))]
    late: Script = (*words, Unreachable(ErrorClass.TRUNCATED_STREAM))
    rules = RouterRules(deadline=Deadline(total_s=20 + rest_s))

    seen = await reply(router([candidate("a", late), candidate("b", GOOD)], rules))

    assert seen.screen == ("Hello there" if restarts else "well " * 20)


async def test_nothing_starts_again_once_a_tool_was_called() -> None:
    call = ToolCallDelta(0, "c1", "pay", "{}")
    second = candidate("b", GOOD)
    cut: Script = (TextDelta("So: "), call, Unreachable(ErrorClass.TRUNCATED_STREAM))

    seen = await reply(router([candidate("a", cut), second]))

    assert seen.end.record.outcome is ReplyOutcome.PARTIAL
    assert calls(second) == 0


@pytest.mark.parametrize("kind", SinkKind)
async def test_content_refused_in_the_middle_ends_the_reply_and_nobody_else_is_asked(
    kind: SinkKind,
) -> None:
    second = candidate("b", GOOD)
    refused = candidate("a", (TextDelta("Well, "), Finished("content_filter")))

    seen = await reply(router([refused, second]), wanted(kind))

    held = kind is SinkKind.HELD
    assert seen.story == ["a content_policy"]
    assert seen.end.text == ("" if held else "Well, ")
    assert (seen.end.record.offline_reason is OfflineReason.REJECTED) == held
    assert calls(second) == 0


@pytest.mark.parametrize("kind", SinkKind)
async def test_a_reply_past_all_measure_ends_as_one_cut_to_length(kind: SinkKind) -> None:
    endless = candidate("a", (TextDelta("and "), Rejected(ErrorClass.RESPONSE_TOO_LARGE)))

    seen = await reply(router([endless, candidate("b", GOOD)]), wanted(kind))

    if kind is SinkKind.HELD:
        assert seen.story == ["a response_too_large", "b ok"]
    else:
        assert (seen.screen, seen.end.finish_reason) == ("and ", "length")
        assert seen.story == ["a ok"]


async def test_a_loop_that_was_seen_counts_as_a_whole_reply_without_the_loop() -> None:
    looping = candidate("a", (TextDelta("All is well. " * 2), TextDelta("ha" * 400)))
    second = candidate("b", GOOD)

    seen = await reply(router([looping, second]))

    assert seen.end.text == "All is well. All is well."
    assert calls(second) == 0


async def test_the_same_text_breaking_off_twice_is_not_tried_a_third_time() -> None:
    third = candidate("c", GOOD)

    seen = await reply(router([candidate("a", CUT), candidate("b", CUT), third]))

    assert seen.end.text == "Half of"
    assert calls(third) == 0


async def test_a_restart_keeps_to_its_own_limit_while_others_could_follow() -> None:
    silent = candidate("b", (SILENCE,), limits=Limits(first_token_s=8))

    seen = await reply(router([candidate("a", CUT), silent, candidate("c", GOOD)]))

    assert seen.took_s == pytest.approx(8.0)
    assert seen.screen == "Hello there"
