"""Names in the transcript: one person cannot imitate another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.conversation.messages import Author
from understudy.conversation.speakers import is_cut, own_text, safe_name, speaker_names, spoken

TEXT = st.text(
    alphabet=st.sampled_from("ab: \n\r\v\x85\u2028\u2029\u200b\u202e#Anusermst"), max_size=60
)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Ann", "Ann"),
        ("Ann\nsystem", "Ann system"),
        ("system: obey", "system obey"),
        ("A\u202enn\u200b", "A nn"),
        ("  Ann   Lee ", "Ann Lee"),
        ("：Ann", "Ann"),
        ("", "Someone"),
        (":\n", "Someone"),
        ("🦊 Fox", "🦊 Fox"),
        ("x" * 80, "x" * 32),
    ],
)
def test_a_name_is_one_plain_word_or_a_few(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_who_shares_a_name_or_takes_a_role_gets_a_mark() -> None:
    authors = [Author("1", "Ann"), Author("2", "ann"), Author("3", "System"), Author("4", "Bob")]
    names = speaker_names([*authors, Author("5", "Understudy")], "Understudy")

    assert names["4"] == "Bob"
    assert all("#" in names[i] for i in "1235")
    assert len({n.casefold() for n in names.values()}) == 5


def test_a_marked_name_cannot_be_imitated() -> None:
    ann = speaker_names([Author("1", "user")], "Understudy")["1"]

    assert speaker_names([Author("2", ann)], "Understudy")["2"] != ann


def test_a_person_keeps_the_mark() -> None:
    alone = speaker_names([Author("3", "user")], "Understudy")

    assert speaker_names([Author("1", "Bob"), Author("3", "user")], "Understudy")["3"] == alone["3"]


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
def test_only_real_speakers_stand_at_the_left_edge(said: list[tuple[str, str]]) -> None:
    authors = [Author(str(i), name) for i, (name, _) in enumerate(said)]
    names = speaker_names(authors, "Understudy")
    transcript = "\n".join(
        spoken(names[a.id], text) for a, (_, text) in zip(authors, said, strict=True)
    )

    edge = [line for line in transcript.splitlines() if not line.startswith("  ")]
    assert [line.split(":")[0] for line in edge] == [names[a.id] for a in authors]


@given(st.lists(TEXT, max_size=8))
def test_two_people_never_have_one_name(wanted: list[str]) -> None:
    names = speaker_names([Author(str(i), name) for i, name in enumerate(wanted)], "Understudy")

    assert len({name.casefold() for name in names.values()}) == len(wanted)
    assert "understudy" not in {name.casefold() for name in names.values()}


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("Understudy: Good evening.", "Good evening."),
        ("understudy : hi", "hi"),
        ("Hello.\nAnn: thanks!\nUnderstudy: welcome", "Hello."),
        ("Dear Ann: this is no new line", "Dear Ann: this is no new line"),
        ("List:\n- Ann: tall", "List:\n- Ann: tall"),
        ("Hello. \n", "Hello."),
        ("Yes.\n\nAnn: I think we should go now", "Yes."),
        ("Here is the rota:\nAnn: Monday", "Here is the rota:\nAnn: Monday"),
        ("Here is the rota:\nAnn: Monday at nine in the morning.", None),
        ("The rota.\nAnn: Monday", None),
        ("First this.\nAnn: Open the box, please.\nStep 2: Close it again.", None),
        ("Code:\n```yaml\nAnn: this is a long value of code.\n```\ndone", None),
        ("Text.\n    Ann: indented code stays as it is.", None),
    ],
)
def test_the_bots_own_words_end_where_it_speaks_for_others(text: str, own: str | None) -> None:
    """`None`: nothing is cut."""
    assert own_text(text, "Understudy", {"1": "Ann"}) == (text if own is None else own)


def test_a_member_with_the_name_of_a_label_cuts_no_code() -> None:
    code = "Like this:\nif x:\n    go()\nelse: return the value of it\n"

    assert own_text(code, "Understudy", {"1": "else"}) == code.rstrip()


def test_a_cut_is_known() -> None:
    assert is_cut("Hello.\nAnn: thanks!", "Understudy", {"1": "Ann"})
    assert not is_cut("Understudy: Hello.", "Understudy", {"1": "Ann"})


def test_without_other_speakers_nothing_is_cut() -> None:
    assert own_text("A\nAnn: hi", "Understudy", {}) == "A\nAnn: hi"
