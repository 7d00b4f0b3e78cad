"""Control characters of outside texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.control_characters import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("\x1b]0;title\x1b\\", "␛]0;title␛\\"),
        ("safe\x08\x08evil", "safe␈␈evil"),
        ("\x9b31m", "<9B>31m"),
        ("abc\u202edef", "abc<202E>def"),
        ("line\r\nline", "line\nline"),
        ("over\rwritten", "over␍written"),
        ("\x7f", "␡"),
        ("emoji 👩‍👩‍👧 עברית", "emoji 👩‍👩‍👧 עברית"),
    ],
)
def test_control_characters_become_visible_marks(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_that_drives_a_terminal_is_left(text: str) -> None:
    obeyed = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}

    assert obeyed.isdisjoint(map(ord, visible(text)))
