"""Keys in texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.conversation.lore.book import Entry
from understudy.conversation.lore.matching import (
    KeyIndex,
    MatchSettings,
    Scanned,
    match,
)
from understudy.conversation.lore.patterns import Patterns


def found(key: str, text: str, **fields: object) -> bool:
    entry = Entry("e", keys=(key,), content="x", **fields)  # type: ignore[arg-type]
    return match(entry, Scanned(text, Patterns()), MatchSettings()) is not None


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("кот", "который час", False),
        ("кот", "это кот!", True),
        ("caf", "a café", False),
        ("café", "the CAFÉ.", True),
        ("猫", "黒猫がいる", True),
        ("old king", "the gold kingdom", True),
        ("king", "king", True),
        ("king", "kings and kingdoms; king", True),
        ("", "anything", False),
    ],
)
def test_words_are_judged_as_people_read_them(key: str, text: str, *, expected: bool) -> None:
    assert (found(key, text) if key else False) is expected


def test_case_counts_only_when_asked() -> None:
    assert found("king", "The KING")
    assert not found("king", "The KING", case_sensitive=True)


def test_a_pattern_has_its_own_flags() -> None:
    assert found("/k.ng/i", "KONG")
    assert not found("/k.ng/", "KONG")
    assert found("/a\\/b\\/c/", "see a/b/c")


def test_a_broken_pattern_is_plain_text() -> None:
    assert found("/(/", "what does /(/ mean", whole_words=False)


def test_v3_patterns_need_no_slashes() -> None:
    assert found("a.b", "axb", regex_keys=True)
    assert not found("a.b", "axb")


def test_a_hostile_pattern_is_given_up() -> None:
    patterns = Patterns()
    entry = Entry("e", keys=("/(a|aa)+$/",), content="x")

    for _ in range(50):
        match(entry, Scanned("a" * 200 + "!", patterns), MatchSettings())

    assert patterns.given_up == ("(a|aa)+$",)


def test_the_index_misses_no_entry() -> None:
    entries = [
        Entry("plain", keys=("King",)),
        Entry("pattern", keys=("/q.een/i",)),
        Entry("macro", keys=("{{user}}",)),
        Entry("other", keys=("rook",)),
    ]

    found = KeyIndex(entries).candidates(Scanned("the KING", Patterns()), MatchSettings())

    assert found == {0, 1, 2}


@given(
    st.lists(st.text(alphabet="abкß猫가א_ '", min_size=1, max_size=3), min_size=1, max_size=6),
    st.text(alphabet="abкß猫가א_ 'AB", max_size=20),
    st.booleans(),
    st.sampled_from([None, True, False]),
)
def test_whatever_matches_is_among_the_candidates(
    keys: list[str], text: str, common: bool, own: bool | None
) -> None:
    entries = [Entry(str(i), keys=(key,), whole_words=own) for i, key in enumerate(keys)]
    settings = MatchSettings(whole_words=common)
    scanned = Scanned(text, Patterns())

    matching = {i for i, entry in enumerate(entries) if match(entry, scanned, settings)}

    assert matching <= KeyIndex(entries).candidates(scanned, settings)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("/a[^]b/", "a\nb"),
        ("/(?<x>a)\\k<x>/", "aa"),
        ("/\\u{1F600}/u", "😀"),
        ("/moon/gv", "the moon"),
    ],
)
def test_patterns_of_javascript_are_translated(key: str, text: str) -> None:
    assert found(key, text)


def test_a_pattern_of_risuai_has_slashes_and_flags() -> None:
    assert found("/Barn, red/i", "the BARN, RED", regex_keys=True)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("앨리스", "앨리스가 왔다"),
        ("ミク", "ミクちゃん"),
        ("Alice", "今天Alice来了"),
        ("Tom", "*Tom*"),
    ],
)
def test_keys_are_found_in_every_script(key: str, text: str) -> None:
    entry = Entry("e", keys=(key,), content="x")
    scanned = Scanned(text, Patterns())

    assert match(entry, scanned, MatchSettings()) is not None
    assert KeyIndex([entry]).candidates(scanned, MatchSettings()) == {0}
