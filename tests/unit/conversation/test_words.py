"""Words in texts of every script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.conversation.words import has_word, is_alphabetic_word, normalized, words_in

TEXT = st.text(alphabet="abЖñ_ '가나小爱ミーมะא'ול1-😀", max_size=12)


def found(key: str, text: str) -> bool:
    return has_word(normalized(text), normalized(key))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("Alice", "今天Alice来了"),
        ("Alice", "Alice가 왔다"),
        ("Alice", "hi Alice😀"),
        ("Alice", "hi *Alice*, _Alice_!"),
        ("Tom", "_Tom_ is here"),
        ("Tom's", "Tom’s hat"),
        ("New York", "New\u00a0York"),
        ("New York", "in new\nyork"),
        ("ha\u200bppy", "happy"),
        ("é", "e\u0301"),
        ("straße", "STRASSE"),
        ("앨리스", "앨리스가 왔다"),
        ("앨리스", "어제 앨리스는?"),
        ("ミク", "ミクちゃん"),
        ("ミク", "初音ﾐｸです"),
        ("小爱", "小爱你好"),
        ("มะลิ", "สวัสดีมะลิครับ"),
        ("שלום", "ושלום לך"),
        ("ילדה", "וכשהילדה באה"),
        ("بيت", "والبيت كبير"),
        ("مدرسة", "للمدرسة"),
        ("محمد", "مُحَمَّد هنا"),
        ("मीरा", "मीरा आई"),
        ("C++", "I like C++."),
        ("😀", "ok😀ok"),
        ("小爱Alice", "我是小爱Alice！"),
    ],
)
def test_a_word_is_found_where_people_read_one(key: str, text: str) -> None:
    assert found(key, text)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("кот", "который час"),
        ("caf", "a café"),
        ("Alice", "Alices"),
        ("Alice", "Alice2"),
        ("Tom", "my_Tom_var"),
        ("스", "앨리스가"),
        ("מל", "גמל"),
        ("בית", "ביתן"),
        ("بيت", "بيتزا"),
        ("มะล", "มะลิ"),
        ("मीर", "मीरा"),
        ("小爱Alice", "小爱Alices"),
        ("", "anything"),
    ],
)
def test_a_part_of_a_word_is_not_found(key: str, text: str) -> None:
    assert not found(key, text)


@given(TEXT, TEXT)
def test_an_alphabetic_word_is_found_exactly_when_it_is_listed(key: str, text: str) -> None:
    key, text = normalized(key), normalized(text)

    if is_alphabetic_word(key):
        assert has_word(text, key) is (key in words_in(text))


@given(TEXT)
def test_normalising_again_changes_nothing(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)
