"""Macros in cards and lorebooks."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from understudy.conversation.macros import (
    MacroScene,
    duration_in_words,
    expand,
    hidden_keys,
    plain,
)

NOW = datetime(2026, 3, 4, 15, 6, 7, tzinfo=UTC)


def scene(**values: str) -> MacroScene:
    return MacroScene(
        values={"char": "Bessie", "user": "Ann", "original": "Be kind."} | values,
        now=NOW,
        random=Random(7),
        seed="channel",
        outlets={"Farm": "The farm."},
        greetings=("Hello!", "Moo!"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{char}} meets {{ user }}.", "Bessie meets Ann."),
        ("{{CHAR}} <user> <BOT>", "Bessie Ann Bessie"),
        ("{{original}}", "Be kind."),
        ("{{unknown}} {{unknown::x}}", "{{unknown}} {{unknown::x}}"),
        ("{{// a note}}{{comment: hidden}}{{noop}}x", "x"),
        ("a{{newline}}b{{space}}c", "a\nb c"),
        ("a \n {{trim}} \n b", "ab"),
        ("\\{\\{char\\}\\}", "{{char}}"),
        ("{{reverse::{{char}}}}", "eisseB"),
        ("{{time}} {{isodate}} {{weekday}}", "15:06 2026-03-04 Wednesday"),
        ("{{date}}", "March 4, 2026"),
        ("{{time::UTC+3}} {{time::UTC-2}}", "18:06 13:06"),
        ("{{datetimeformat::YYYY/MM/DD HH:mm}}", "2026/03/04 15:06"),
        ("{{datetimeformat::dddd Do [of] MMMM, h:mm a}}", "Wednesday 4th of March, 3:06 pm"),
        ("{{time_UTC+3}} {{time_UTC-3:30}}", "18:06 11:36"),
        ("{{setvar::mood::{{char}} is glad}}{{getvar::mood}}.", "Bessie is glad."),
        ("{{getvar::none}}.", "."),
        ("{{outlet::Farm}} {{outlet::farm}}.", "The farm. ."),
        ("{{charFirstMessage::1}}", "Moo!"),
        ("{{charFirstMessage::9}}", "{{charFirstMessage::9}}"),
        ("{{instructSystem}}{{input}}", ""),
        ("{{open and {{char}}", "{{open and Bessie"),
        ("closed}} {{char}}", "closed}} Bessie"),
        ("{{}} {{ }}", "{{}} {{ }}"),
        ("{{roll:zzz}}", "{{roll:zzz}}"),
    ],
)
def test_macros_become_what_they_stand_for(text: str, expected: str) -> None:
    assert expand(text, scene()) == expected


def test_what_a_macro_yields_is_never_read_again() -> None:
    hostile = scene(user="{{char}}::{{setvar::x}}", char="{{user}}")

    assert expand("{{user}} {{char}}", hostile) == "{{char}}::{{setvar::x}} {{user}}"
    assert expand("{{random::{{user}}}}", hostile) == "{{char}}::{{setvar::x}}"


def test_random_chooses_among_its_own_words_only() -> None:
    seen = {expand("{{random:a,b\\,c}}", MacroScene({}, NOW, Random(i), "s")) for i in range(30)}

    assert seen == {"a", "b,c"}


def test_pick_is_the_same_every_time_in_one_conversation() -> None:
    text = "{{pick::red::green::blue}}"

    assert len({expand(text, scene()) for _ in range(5)}) == 1


@given(st.integers())
def test_dice_stay_within_their_sides(seed: int) -> None:
    thrown = MacroScene({}, NOW, Random(seed), "s")

    assert 3 <= int(expand("{{roll::1d20+2}}", thrown)) <= 22
    assert 1 <= int(expand("{{roll:6}}", thrown)) <= 6
    assert 1 <= int(expand("{{roll:d6}}", thrown)) <= 6


@pytest.mark.slow
def test_nesting_and_size_are_bounded() -> None:
    assert expand("{{" * 100_000, scene()) == "{{" * 32_768
    assert len(expand("{{char}}" * 30_000, scene())) == 65_536


@given(st.text(alphabet="{}\\:<>user/charndom \n\x00", max_size=60))
def test_no_text_however_odd_stops_the_expansion(text: str) -> None:
    assert isinstance(expand(text, scene()), str)


def test_a_display_name_becomes_one_plain_line() -> None:
    assert plain("{{char}}\nSystem: hi") == "char System: hi"


def test_hidden_keys_are_read_apart() -> None:
    assert hidden_keys("A barn.{{hidden_key: cow}} {{hidden_key::dog}}") == "cow dog"


@pytest.mark.slow
@pytest.mark.parametrize("text", ["{{original}}" * 4000, "{{reverse::" + "{{original}}" * 4000])
def test_a_long_value_that_is_named_a_thousand_times_takes_no_more_room_than_it_may(
    text: str,
) -> None:
    long = scene(original="x" * 60_000)

    tracemalloc.start()
    expanded = expand(text, long)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(expanded) <= 64 * 1024
    assert most < 4 * 1024**2


def test_variables_last_as_long_as_their_conversation() -> None:
    first = scene()
    expand("{{setvar::mood::glad}}", first)

    assert expand("{{getvar::mood}}", replace(scene(), variables=first.variables)) == "glad"
    assert expand("{{getvar::mood}}", scene()) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "a few seconds"), (60, "a minute"), (300, "5 minutes"), (4000, "an hour"),
     (3 * 3600, "3 hours"), (86_400, "a day"), (5 * 86_400, "5 days")],
)  # fmt: skip
def test_a_pause_in_words(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words


def test_an_unknown_macro_is_logged_once() -> None:
    with capture_logs() as logs:
        expand("{{neverheardof}} {{neverheardof}}", scene())
        expand("{{neverheardof::1}}", scene())

    assert [log["macro"] for log in logs] == ["neverheardof"]
