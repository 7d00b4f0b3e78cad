"""What people see of what a model wrote, wherever its pieces break."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reply_events import Restarted, always
from understudy.errors import BadReply, ErrorClass
from understudy.llm.capabilities import Capabilities, ModelKey
from understudy.llm.messages import Finished, ReasoningDelta, TextDelta
from understudy.llm.testing import Script, Step, saying
from understudy.observability.reply_report import format_runs
from understudy.routing.output_filter import OutputFilter, whole_sentences
from understudy.routing.records import describe_route
from understudy.routing.request import SinkKind
from unit.routing.router_driver import Seen, candidate, reply, router, wanted

GOOD = saying("Hello", " there")


def cleaned(*pieces: str, for_people: bool = True, bound: bool = False) -> tuple[str, str]:
    """(visible text, thoughts) of a text that came in these pieces."""
    normaliser = OutputFilter(for_people=for_people)
    text, thoughts = "", ""
    for piece in pieces:
        out = list(normaliser.push(TextDelta(piece)))
        normaliser.refuse_loop(committed=bound)
        if normaliser.discard:
            text, thoughts = "", thoughts + text
        for event in out:
            if isinstance(event, TextDelta):
                text += event.text
            else:
                thoughts += event.text
    return text + "".join(e.text for e in normaliser.rest()), thoughts


def test_a_plain_piece_passes_as_the_very_same_event() -> None:
    event = TextDelta("Hello", frames=(b"{}",))

    assert OutputFilter(for_people=True).push(event)[0] is event


@pytest.mark.slow
@given(st.data())
def test_thoughts_are_told_apart_wherever_the_pieces_break(data: st.DataObject) -> None:
    whole = "<think>Let me see. 1 < 2 </ think></think>\n\nTwo is <more> than one."
    cuts = data.draw(st.lists(st.integers(1, len(whole) - 1), max_size=12, unique=True))
    edges = [0, *sorted(cuts), len(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(edges)]

    assert cleaned(*pieces) == ("Two is <more> than one.", "Let me see. 1 < 2 </ think>")


def test_a_tag_within_a_sentence_is_no_thought() -> None:
    text = "Models write <think> before they speak."

    assert cleaned(text, for_people=False) == (text, "")


def test_what_looked_like_a_tag_to_the_end_is_text() -> None:
    assert cleaned("a <", "thin") == ("a <thin", "")


def test_without_an_opening_tag_everything_before_the_closing_one_was_a_thought() -> None:
    assert cleaned("They greet me.", "</thi", "nk>", "\n\nHello!")[0] == "Hello!"


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (("Sure.", "<|im_", "end|>", "<|im_start|>user"), "Sure."),
        (("Sure. [IN", "ST] more"), "Sure. "),
        (("Hi!", "\nUs", "er: and you?"), "Hi!"),
        (("A [link] and ### Heading",), "A [link] and ### Heading"),
    ],
)
def test_leaks_and_other_speakers_are_cut_off(raw: tuple[str, ...], kept: str) -> None:
    assert cleaned(*raw) == (kept, "")


def test_a_client_of_the_gateway_gets_the_text_as_it_is() -> None:
    text = "Write <|im_start|> first.\nUser: hello [INST]"

    assert cleaned(text, for_people=False)[0] == text


@pytest.mark.parametrize(
    ("raw", "error_class"),
    [
        ("<|im_start|>assistant", ErrorClass.GARBAGE),
        ("<!DOCTYPE html><html>", ErrorClass.BAD_BODY),
        ("the " * 200, ErrorClass.GARBAGE),
        ("\ufffd\ufffd ok " * 30, ErrorClass.GARBAGE),
        ("one two three four five six " * 200, ErrorClass.GARBAGE),
    ],
)
def test_what_is_no_reply_at_all_is_refused(raw: str, error_class: ErrorClass) -> None:
    with pytest.raises(BadReply) as refused:
        cleaned(raw)

    assert refused.value.error_class is error_class


@pytest.mark.parametrize("honest", ["-" * 100, "ha" * 40, "| --- | --- |\n" * 20, "=" * 300])
def test_rulers_and_laughter_are_no_garbage(honest: str) -> None:
    assert cleaned(honest) == (honest, "")


@given(st.text(max_size=400), st.integers(1, 7))
def test_text_for_clients_without_tags_is_never_changed(text: str, size: int) -> None:
    # Marks of thoughts and ends of turns begin so; thoughts have words too.
    if "think" in text or any(mark in text for mark in "<[\ufffd"):
        return
    pieces = [text[i : i + size] for i in range(0, len(text), size)]

    assert cleaned(*pieces, for_people=False) == (text, "")


def through(*steps: Step) -> Script:
    return (*steps, Finished("stop"))


async def seen_by(kind: SinkKind, script: Script, **fields: str) -> Seen:
    candidates = [candidate("a", script), candidate("b", GOOD)]
    return await reply(router(candidates), wanted(kind, always, **fields))


async def test_a_loop_after_good_text_is_cut_at_the_sentence_before_and_named() -> None:
    script = through(
        TextDelta("This was a good beginning. And then it went "), TextDelta("na" * 200)
    )

    seen = await seen_by(SinkKind.EDITABLE, script)

    assert seen.story == ["a ok"]
    assert seen.end.text == "This was a good beginning."
    assert describe_route(seen.end.record.attempts).startswith("repeated itself, cut: a")
    assert "its end repeated itself and was cut" in format_runs([seen.end.record])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two and", "One."),
        ("He said “no.” Then", "He said “no.”"),
        ("Price 3.5 and", "Price 3.5 and"),
        ("第一句。第二", "第一句。"),
        ("- item one\n- item", "- item one"),
        ("no end at all", "no end at all"),
    ],
)
def test_a_cut_keeps_whole_sentences(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept


async def test_a_loop_nobody_has_seen_goes_to_the_next() -> None:
    seen = await seen_by(SinkKind.HELD, through(TextDelta("Well. "), TextDelta("na" * 200)))

    assert seen.story == ["a garbage", "b ok"]


async def test_an_echo_of_the_only_server_is_asked_for_once_more_and_then_delivered() -> None:
    line = "What do you think about the weather today?"
    always, once = (
        candidate("a", through(TextDelta(line))),
        candidate("b", through(TextDelta(line)), through(TextDelta("Rain, rain and rain."))),
    )
    request = wanted(previous_reply=line)

    stubborn, better = [await reply(router([one]), request) for one in (always, once)]

    assert (stubborn.end.text, stubborn.story) == (line, ["a garbage", "a ok"])
    assert (better.end.text, better.story) == ("Rain, rain and rain.", ["b garbage", "b ok"])


async def test_echoes_put_no_server_into_a_cooldown() -> None:
    line = "What do you think about the weather today?"
    model = router([candidate("a", through(TextDelta(line)))])

    stories = [(await reply(model, wanted(previous_reply=line))).story for _ in range(8)]

    assert stories == [["a garbage", "a ok"]] * 8


@pytest.mark.parametrize("of_the_question", [True, False])
async def test_an_echo_of_what_was_said_before_is_no_reply_once(of_the_question: bool) -> None:
    question = "What do you think about the weather today?"
    echo = through(TextDelta("What do you think "), TextDelta("about the weather today?"))
    candidates = [candidate("a", echo), candidate("b", echo)]

    before = ("", question)
    asked = wanted(
        last_user_text=before[of_the_question], previous_reply=before[1 - of_the_question]
    )
    seen = await reply(router(candidates), asked)

    assert seen.story == ["a garbage", "b ok"]
    assert seen.screen == question


async def test_an_echo_that_is_shown_already_is_delivered() -> None:
    line = "What do you think about the weather today?"
    long_thought = ReasoningDelta("Hm. " * 20_000)
    model = router([candidate("a", through(long_thought, TextDelta(line))), candidate("b", GOOD)])

    seen = await reply(model, wanted(previous_reply=line))

    assert (seen.end.text, seen.story) == (line, ["a ok"])


async def test_a_reply_that_only_begins_like_the_question_is_let_through() -> None:
    question = "What do you think about the weather today?"
    script = through(TextDelta("What do you think "), TextDelta("of it yourself?"))

    seen = await seen_by(SinkKind.APPEND_ONLY, script, last_user_text=question)

    assert seen.screen == "What do you think of it yourself?"


async def test_a_greeting_may_be_returned() -> None:
    seen = await seen_by(SinkKind.HELD, through(TextDelta("Hello!")), last_user_text="Hello!")

    assert seen.story == ["a ok"]


ORPHAN = through(TextDelta("They greet me. "), TextDelta("</think>"), TextDelta("Hi!"))


async def test_an_editable_sink_takes_an_unmarked_thought_back() -> None:
    seen = await seen_by(SinkKind.EDITABLE, ORPHAN)

    assert seen.screen == seen.end.text == "Hi!"
    assert any(isinstance(event, Restarted) for event in seen.events)


async def test_a_held_reply_never_shows_an_unmarked_thought() -> None:
    seen = await seen_by(SinkKind.HELD, ORPHAN)

    assert seen.screen == seen.end.text == "Hi!"
    assert not any(isinstance(event, Restarted) for event in seen.events)


async def test_what_was_appended_stays_but_the_tag_is_never_sent() -> None:
    seen = await seen_by(SinkKind.APPEND_ONLY, ORPHAN)

    assert seen.screen == "They greet me. Hi!"


async def test_thoughts_are_passed_on_as_thoughts() -> None:
    script = through(TextDelta("<think>hm</think>"), TextDelta("Hi!"))

    seen = await seen_by(SinkKind.EDITABLE, script)

    assert seen.screen == "Hi!"
    assert [e.text for e in seen.events if isinstance(e, ReasoningDelta)] == ["hm"]


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>"),
        ("<reasoning>", "</reasoning>"),
        ("[THINK]", "[/THINK]"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|channel>thought\n", "<channel|>"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("for_people", [True, False])
def test_thoughts_of_every_spelling_are_kept_apart_wherever_they_are_cut(
    opening: str, closing: str, size: int, for_people: bool
) -> None:
    text = f"{opening}Let me see.{closing}\nHere it is."
    sieve = OutputFilter(for_people=for_people)

    pieces = [
        p for n in range(0, len(text), size) for p in sieve.push(TextDelta(text[n : n + size]))
    ]
    pieces += sieve.rest()

    thoughts = "".join(p.text for p in pieces if isinstance(p, ReasoningDelta))
    visible = "".join(p.text for p in pieces if isinstance(p, TextDelta))
    assert (thoughts.strip(), visible) == ("Let me see.", "Here it is.")


@pytest.mark.parametrize(
    "token",
    ["<end_of_turn>", "<turn|>", "</s>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<|user|>",
     "<\uff5cend\u2581of\u2581sentence\uff5c>"],
)  # fmt: skip
@pytest.mark.parametrize("for_people", [True, False])
async def test_a_leaked_end_of_turn_ends_the_reply(token: str, for_people: bool) -> None:
    script = through(TextDelta("Well, yes."), TextDelta(token), TextDelta("\nUser: and you?"))
    kind = SinkKind.EDITABLE if for_people else SinkKind.APPEND_ONLY

    seen = await reply(router([candidate("a", script)]), wanted(kind, may_trim_prompt=for_people))
    blank = await reply(
        router(
            [candidate("a", through(TextDelta(token))), candidate("b", through(TextDelta("Ok")))]
        ),
        wanted(kind, may_trim_prompt=for_people),
    )

    assert (seen.end.text, seen.end.finish_reason) == ("Well, yes.", "stop")
    assert blank.story == ["a empty_reply", "b ok"]


def test_struck_text_and_tags_of_a_clients_own_are_no_ends() -> None:
    sieve = OutputFilter(for_people=False)
    text = "It costs <s>12</s> 10, see <a><reason>x</reason></reasoning>."

    pieces = [*sieve.push(TextDelta(text)), *sieve.rest()]

    assert "".join(piece.text for piece in pieces) == text
    raw = OutputFilter(for_people=False, clean=False)
    assert raw.push(TextDelta("a<|im_end|>b"))[0].text == "a<|im_end|>b"


OPENED_BY_TEMPLATE = through(TextDelta("They greet "), TextDelta("me.</think>"), TextDelta("\nHi!"))


async def replies_of(*scripts: Script, kind: SinkKind = SinkKind.APPEND_ONLY) -> list[Seen]:
    """The replies of one model, one after the other."""
    routed = router([candidate("a", *scripts)])
    return [await reply(routed, wanted(kind, may_trim_prompt=False)) for _ in scripts]


def thoughts_of(seen: Seen) -> str:
    return "".join(event.text for event in seen.events if isinstance(event, ReasoningDelta))


async def test_a_template_that_opens_the_thought_is_learned_from_the_first_reply() -> None:
    _, seen = await replies_of(OPENED_BY_TEMPLATE, OPENED_BY_TEMPLATE)

    assert (seen.screen, thoughts_of(seen)) == ("Hi!", "They greet me.")


async def test_a_thought_that_the_server_keeps_apart_after_all_leaves_the_text_alone() -> None:
    apart = through(ReasoningDelta("They greet me."), TextDelta("Hi!"))

    _, seen = await replies_of(OPENED_BY_TEMPLATE, apart)

    assert (seen.screen, thoughts_of(seen)) == ("Hi!", "They greet me.")


async def test_a_reply_without_the_expected_end_of_a_thought_is_text() -> None:
    plain = through(TextDelta("Hi "), TextDelta("there!"))

    _, seen, later = await replies_of(OPENED_BY_TEMPLATE, plain, plain)

    assert (seen.screen, seen.end.text, thoughts_of(seen)) == ("Hi there!", "Hi there!", "")
    assert later.screen == "Hi there!"


async def test_a_thought_with_both_tags_is_one_thought_where_one_was_expected() -> None:
    both = through(TextDelta("<think>hm"), TextDelta("</think>Hi!"))

    _, seen = await replies_of(OPENED_BY_TEMPLATE, both)

    assert (seen.screen, thoughts_of(seen)) == ("Hi!", "hm")


async def test_an_unmarked_thought_is_shown_as_reasoning_to_people() -> None:
    seen = await seen_by(SinkKind.EDITABLE, ORPHAN)

    assert thoughts_of(seen) == "They greet me. "


async def test_a_template_known_to_open_the_thought_is_right_from_the_first_stream_on() -> None:
    routed = router([candidate("a", OPENED_BY_TEMPLATE)])
    routed.memory.book.discover(ModelKey("a", "m"), Capabilities(opens_thought=True))

    seen = await reply(routed, wanted(SinkKind.APPEND_ONLY, may_trim_prompt=False))

    assert (seen.screen, thoughts_of(seen)) == ("Hi!", "They greet me.")
