"""Every lorebook file in circulation is read, and no damage in it raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.conversation.lore.book import Book, Entry, Logic, Slot
from understudy.conversation.lore.formats import parse_book
from understudy.conversation.lore.matching import MatchSettings, Scanned, match
from understudy.conversation.lore.patterns import Patterns
from understudy.errors import PersonaError


def book(raw: object) -> Book:
    parsed = parse_book(raw, book_id="b")
    assert parsed is not None
    return parsed


def only(raw: object) -> Entry:
    (entry,) = book(raw).entries
    return entry


def test_a_sparse_world_info_entry_takes_the_defaults() -> None:
    entry = only({"entries": {"0": {"uid": 0, "key": ["elf"], "content": "Elves."}}})

    assert entry == Entry("0", keys=("elf",), content="Elves.")


def test_world_info_fields_are_read_and_mended() -> None:
    entry = only(
        {
            "entries": {
                "7": {
                    "key": ["a", "", None],
                    "keysecondary": ["b"],
                    "order": "250",
                    "selectiveLogic": 3,
                    "position": 4,
                    "depth": 2,
                    "role": 1,
                    "disable": "false",
                    "delayUntilRecursion": True,
                    "group": "x, y",
                    "matchScenario": True,
                    "scanDepth": None,
                    "probability": 40,
                    "content": "text",
                }
            }
        }
    )

    assert entry.keys == ("a",)
    assert entry.secondary == ("b",)
    assert entry.logic is Logic.AND_ALL
    assert (entry.order, entry.slot, entry.depth, entry.role) == (250, Slot.AT_DEPTH, 2, "user")
    assert entry.enabled
    assert entry.delay_until_recursion == 1
    assert entry.groups == ("x", "y")
    assert entry.also_match == {"scenario"}
    assert entry.probability == 40


def test_the_numeric_position_of_a_card_book_wins_over_the_spoken_one() -> None:
    entry = only(
        {
            "entries": [
                {
                    "keys": ["k"],
                    "content": "c",
                    "position": "before_char",
                    "extensions": {"position": 4, "depth": 2, "role": 1},
                }
            ]
        }
    )

    assert (entry.slot, entry.depth, entry.role) == (Slot.AT_DEPTH, 2, "user")


def test_a_card_book_defaults_differ_from_world_info() -> None:
    entry = only({"entries": [{"keys": ["k"], "secondary_keys": ["s"], "content": "c"}]})

    assert entry.slot is Slot.AFTER_CHAR
    assert entry.secondary == ()


def matches(entry: Entry, text: str) -> bool:
    return match(entry, Scanned(text, Patterns()), MatchSettings()) is not None


def test_use_regex_is_obeyed_unless_the_file_shows_that_it_means_nothing() -> None:
    native = {"keys": ["a.b"], "content": "c", "use_regex": True}
    exported = native | {"extensions": {"selectiveLogic": 0}}

    assert matches(only({"entries": [native]}), "axb")
    assert not matches(only({"entries": [exported]}), "axb")


def test_a_standalone_v3_book_keeps_its_own_settings() -> None:
    parsed = book(
        {
            "spec": "lorebook_v3",
            "data": {
                "name": "Farm",
                "scan_depth": 5,
                "token_budget": 200,
                "recursive_scanning": False,
                "entries": [],
            },
        }
    )

    assert (parsed.name, parsed.scan_depth, parsed.token_budget, parsed.recursive) == (
        "Farm",
        5,
        200,
        False,
    )


def test_other_programs_books_are_read() -> None:
    novelai = {
        "lorebookVersion": 5,
        "entries": [{"keys": ["a"], "text": "A", "contextConfig": {"budgetPriority": 400}}],
    }
    agnai = {"kind": "memory", "entries": [{"keywords": ["a"], "entry": "A", "weight": 3}]}
    risu = {"type": "risu", "data": [{"key": "a, b", "content": "A", "alwaysActive": True}]}

    assert (only(novelai).content, only(novelai).order) == ("A", 400)
    assert (only(agnai).keys, only(agnai).order) == (("a",), 3)
    assert (only(risu).keys, only(risu).constant) == (("a", "b"), True)


def test_decorators_are_taken_out_and_obeyed() -> None:
    content = (
        "@@depth 2\n@@unknown 1\n@@@role user\n@@@role assistant\n@@additional_keys x, y\nText."
    )
    entry = only({"entries": [{"keys": ["k"], "content": content}]})

    assert entry.content == "Text."
    assert (entry.slot, entry.depth, entry.role) == (Slot.AT_DEPTH, 2, "user")
    assert entry.decorated.extra_keys == ("x", "y")


def test_what_is_no_lorebook_is_none() -> None:
    assert parse_book({"name": "a card"}, book_id="b") is None
    assert parse_book([1, 2], book_id="b") is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
_names = ["key", "keys", "content", "order", "position", "extensions", "role", "depth", "group"]


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(_names), _json))
def test_no_entry_however_odd_stops_the_reading(entry: dict[str, object]) -> None:
    parsed = book({"entries": {"0": entry}})
    as_list = book({"entries": [entry]})

    assert len(parsed.entries) == len(as_list.entries) == 1
    assert isinstance(json.dumps([e.uid for e in parsed.entries]), str)


def test_novelai_entries_that_are_forced_or_disabled_by_their_category() -> None:
    book = parse_book(
        {
            "lorebookVersion": 5,
            "entries": [
                {"text": "Always.", "keys": [], "forceActivation": True, "category": ""},
                {"text": "Off.", "keys": ["x"], "enabled": True, "category": "c1"},
                {"text": "On.", "keys": ["y"], "enabled": True, "category": "c2"},
            ],
            "categories": [{"id": "c1", "enabled": False}, {"id": "c2", "enabled": True}],
        },
        book_id="b",
    )

    assert book is not None
    assert [entry.constant for entry in book.entries] == [True, False, False]
    assert [entry.enabled for entry in book.entries] == [True, False, True]


def test_a_risu_pattern_is_one_key_and_folders_are_no_entries() -> None:
    entries = [
        {"key": "\uf000folder:1", "mode": "folder", "comment": "Places", "content": ""},
        {"key": "/(barn|shed), red/i", "useRegex": True, "content": "Red.", "mode": "normal"},
        {"key": "cow, milk", "content": "Milk.", "mode": "normal", "id": "m", "insertorder": 50},
        {"key": "cheese", "mode": "child", "id": "m", "content": ""},
    ]

    book = parse_book({"type": "risu", "ver": 1, "data": entries}, book_id="b")

    assert book is not None
    assert [entry.keys for entry in book.entries] == [
        ("/(barn|shed), red/i",),
        ("cow", "milk"),
        ("cow", "milk"),
    ]
    assert book.entries[0].regex_keys
    assert book.entries[2].content == "Milk."


@pytest.mark.parametrize("as_list", [True, False])
def test_enabled_false_is_obeyed_in_lists_and_mappings(as_list: bool) -> None:
    entries = [
        {"keys": ["a"], "content": "A.", "enabled": False},
        {"key": ["b"], "keysecondary": [], "content": "B.", "enabled": False},
        {"key": ["c"], "disable": True, "content": "C."},
        {"keys": ["d"], "content": "D."},
    ]
    raw = entries if as_list else {str(n): entry for n, entry in enumerate(entries)}

    book = parse_book({"entries": raw}, book_id="b")

    assert book is not None
    assert [entry.enabled for entry in book.entries] == [False, False, False, True]


def test_a_list_of_entries_alone_is_a_book() -> None:
    book = parse_book(
        [
            {
                "key": ["ship", "gull"],
                "content": "The Gull.",
                "name": "Ship",
                "enabled": True,
                "constant": False,
                "insertion_order": 7,
                "probability": 100,
            }
        ],
        book_id="b",
    )

    assert book is not None
    entry = book.entries[0]
    assert (entry.title, entry.keys, entry.order) == ("Ship", ("ship", "gull"), 7)


def test_a_koboldai_story_is_refused_by_name() -> None:
    with pytest.raises(PersonaError, match="a KoboldAI story"):
        parse_book({"gamestarted": True, "worldinfo": []}, book_id="b")
