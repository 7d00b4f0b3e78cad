"""The check of the chaos runs finds each thing that must not happen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from chaos.invariants import Answer, Evidence, check
from chaos.ledger_check import Entry, LedgerCounts
from chaos.observations import Call, PromptTurn, Question, Recorder
from sample_lines import line
from understudy.llm.messages import Message, TextPart
from understudy.memory.store import Summary
from understudy.memory.summary_request import SummaryRequest
from understudy.platforms.discord.rendering import CUT_OFF
from understudy.routing.request import Fit


def _question(number: int, author: str = "ann") -> Question:
    return Question(number, {"channel_id": "room"}, author)


def _call(number: int, **more: object) -> Call:
    made = Call("a", number, (PromptTurn(number),), f"[a#{number}] about q{number}", whole=True)
    return replace(made, **more)  # type: ignore[arg-type]


def _answer(number: int | None, content: str = "") -> Answer:
    return Answer(1, number, content or f"[a#{number}] about q{number}")


def _evidence(
    calls: Sequence[Call] = (),
    answers: Sequence[Answer] | None = None,
    recorded: dict[Entry, int] | None = None,
    **more: object,
) -> Evidence:
    """Of a run in which two questions were asked, and all went well but for what is given."""
    calls = calls or (_call(1), _call(2))
    entries = Counter((call.server, call.question) for call in calls)
    made = Evidence(
        {1: _question(1), 2: _question(2)},
        answers if answers is not None else (_answer(1), _answer(2)),
        calls,
        LedgerCounts(Counter(recorded) if recorded is not None else entries),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_a_run_without_fault_is_clean() -> None:
    assert check(_evidence()).clean


def test_a_question_without_an_answer_is_lost() -> None:
    assert check(_evidence(answers=[_answer(2)])).lost == ("q1",)


def test_two_answers_to_one_question_are_a_double() -> None:
    assert check(_evidence(answers=[_answer(1), _answer(1), _answer(2)])).doubled == ("q1",)


@pytest.mark.parametrize(
    "content",
    [
        "[a#1] ab[a#1] about q1",  # the texts of two attempts in a row
        "[a#1] about q2",  # the answer to another question
        "[a#1] about",  # cut off without a mark
        f"[b#7] about\n-# {CUT_OFF}",  # cut, but never said by anyone
        "invented",
    ],
)
def test_a_text_that_no_single_call_has_said_is_found(content: str) -> None:
    broken = _call(1, text="[a#1] ab", whole=False)
    seen = _evidence((broken, _call(1), _call(2)), [_answer(1, content), _answer(2)])

    (said,) = check(seen).violations
    assert "a text of no call" in said


def test_the_marked_beginning_of_a_reply_that_broke_off_is_right() -> None:
    broken = _call(1, text="[a#1] about", whole=False, faulted=True)
    cut = _answer(1, f"[a#1] about\n-# {CUT_OFF}")

    assert check(_evidence((broken, _call(2)), [cut, _answer(2)])).clean


def test_an_unrequested_answer_is_found() -> None:
    (said,) = check(_evidence(answers=[_answer(1), _answer(2), _answer(None, "hi")])).violations

    assert "without being asked" in said


@pytest.mark.parametrize(
    "prompt",
    [
        (PromptTurn(2), PromptTurn(1)),
        (PromptTurn(1), PromptTurn(1), PromptTurn(2)),
        (PromptTurn(1, "something else"), PromptTurn(2)),
        (PromptTurn(2, "[a#2] about q2"), PromptTurn(3)),
    ],
)
def test_a_prompt_out_of_order_or_with_another_reply_is_found(
    prompt: tuple[PromptTurn, ...],
) -> None:
    assert check(_evidence((_call(1), _call(2, prompt=prompt)))).violations


def test_a_younger_question_of_the_same_person_taken_up_first_is_found() -> None:
    assert check(_evidence((_call(2), _call(1)))).violations == ("q1 was taken up after q2",)


def test_two_people_may_be_answered_in_either_order() -> None:
    people = {1: _question(1, "ann"), 2: _question(2, "bob")}

    assert check(_evidence((_call(2), _call(1)), questions=people)).clean


def test_an_attempt_recorded_twice_is_found() -> None:
    doubled = {("a", 1): 2, ("a", 2): 1}

    assert check(_evidence(recorded=doubled)).violations == ("q1 at a: 1 calls, but 2 recorded",)


def test_one_answer_of_a_server_in_two_records_is_found() -> None:
    seen = _evidence()
    seen.ledger.upstream["a/chatcmpl-1"] = 2

    assert check(seen).violations == ("a/chatcmpl-1 is recorded 2 times",)


def test_an_attempt_without_a_record_is_found() -> None:
    (said,) = check(_evidence(recorded={("a", 2): 1})).violations

    assert said == "q1 at a: 1 calls, but 0 recorded, 0 interrupted"


def test_only_what_ran_at_a_kill_may_lack_its_record() -> None:
    missing = _evidence(recorded={("a", 2): 1})

    assert check(replace(missing, interrupted={("a", 1): 1})).clean
    assert not check(replace(missing, interrupted={("a", 2): 1})).clean


def test_a_missing_record_at_a_stop_is_reported() -> None:
    assert check(_evidence(unrecorded=["q1 at a: 1 not recorded"])).violations


def test_a_request_for_a_summary_is_no_call_for_a_question() -> None:
    summary = SummaryRequest(Summary(), [line(1, "q1 please"), line(2, "q2 please")], "Bot", 100)
    instruction, material = summary.build(Fit(None, 100, False, 0.3)).request.messages
    recorder = Recorder()

    recorder.called("a", _as_sent(instruction, material), faulted=False)

    assert recorder.calls == []


def _as_sent(*messages: Message) -> list[dict[str, str]]:
    texts = [
        (m.role, "".join(p.text for p in m.parts if isinstance(p, TextPart))) for m in messages
    ]
    return [{"role": role, "content": text} for role, text in texts]
