"""Which entries a conversation brings up: the reference's behaviour, and where ours is better."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.conversation.lore.book import Book, CharacterFilter, Decorated, Entry, Logic
from understudy.conversation.lore.effects import Effects
from understudy.conversation.lore.patterns import Patterns
from understudy.conversation.lore.scan import IndexedBook, Reader, scan
from understudy.conversation.lore.scene import (
    Budget,
    By,
    Lore,
    LoreSettings,
    Scene,
    Spoken,
    Why,
)

E1 = Entry("E1", keys=("Bessie",), content="Bessie is a cow, friend of Rufus.", order=100)
E2 = Entry("E2", keys=("Rufus",), content="Rufus is a dog.")
E3 = Entry("E3", constant=True, order=10, content="Farm rules.")
E4 = Entry("E4", keys=("/\\x01Ann:[^\\x01]*milk/i",), content="Ann likes milk.")
E5 = Entry("E5", keys=("king",), content="The king.", whole_words=True)
E7 = Entry("E7", keys=("cow",), content="Cows.", exclude_recursion=True)
E8 = Entry("E8", keys=("Rufus",), content="Rufus sleeps.", delay_until_recursion=1)
E9 = Entry("E9", keys=("sing",), content="A song.", groups=("g",))
E10 = Entry("E10", keys=("sing", "Ghosts"), content="Ghosts sing.", groups=("g",))


def words(text: str) -> int:
    return len(text.split())


def run(
    *entries: Entry,
    say: str | list[str] = "",
    settings: LoreSettings | None = None,
    tokens: int = 1000,
    effects: Effects | None = None,
    book: Callable[[tuple[Entry, ...]], Book] = lambda e: Book("b", "b", e),
    **scene: object,
) -> Lore:
    lines = [say] if isinstance(say, str) else say
    spoken = tuple(
        Spoken(*line.split(": ", 1)) if ": " in line else Spoken("Ann", line) for line in lines
    )
    text = {"messages": spoken, "message_count": len(spoken), "seed": "s"} | scene
    reader = Reader(settings or LoreSettings(), Budget(tokens, words), Patterns())
    return scan([IndexedBook(book(entries))], Scene(**text), reader, effects or {})  # type: ignore[arg-type]


def uids(lore: Lore) -> list[str]:
    return [a.entry.uid for a in lore.activated]


def test_a_name_brings_its_entry_and_what_that_names_in_turn() -> None:
    lore = run(E1, E2, E3, E8, say="Bessie?")

    assert uids(lore)[0] == "E3"
    assert set(uids(lore)) == {"E1", "E2", "E3", "E8"}
    assert {a.entry.uid: a.by for a in lore.activated} == {
        "E3": By.CONSTANT,
        "E1": By.KEY,
        "E2": By.RECURSION,
        "E8": By.RECURSION,
    }


def test_without_recursion_entries_name_nothing() -> None:
    assert uids(run(E1, E2, E3, say="Bessie?", settings=LoreSettings(recursive=False))) == [
        "E3",
        "E1",
    ]


def test_a_pattern_can_pin_the_speaker() -> None:
    assert uids(run(E4, say="Ann: more milk")) == ["E4"]
    assert uids(run(E4, say="Bob: more milk")) == []


def test_whole_words_are_whole() -> None:
    assert uids(run(E5, say="not to my liking")) == []
    assert uids(run(E5, say="the king.")) == ["E5"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("moon night", [True, True, False, False]),
        ("moon", [False, True, True, False]),
        ("moon night cold", [True, False, False, True]),
    ],
)
def test_secondary_keys_join_by_their_logic(text: str, expected: list[bool]) -> None:
    found = []
    for logic in Logic:
        entry = Entry("E6", keys=("moon",), secondary=("night", "cold"), content="x", logic=logic)
        found.append(uids(run(entry, say=text)) == ["E6"])

    assert found == expected


def test_an_entry_can_refuse_to_be_named_by_others() -> None:
    assert uids(run(E1, E7, say="Bessie?")) == ["E1"]
    assert uids(run(E7, say="a cow")) == ["E7"]


def test_the_better_match_wins_its_group() -> None:
    lore = run(E9, E10, say="sing about Ghosts", settings=LoreSettings(group_scoring=True))

    assert uids(lore) == ["E10"]
    assert [(s.entry.uid, s.why) for s in lore.skipped] == [("E9", Why.GROUP)]


@given(st.integers())
def test_one_of_a_group_is_taken_whatever_the_dice(seed: int) -> None:
    assert len(uids(run(E9, E10, say="sing about Ghosts", seed=str(seed)))) == 1


def test_what_was_said_too_long_ago_matches_nothing() -> None:
    assert uids(run(E5, say=["the king", "well", "so"])) == []
    assert uids(run(E5, say=["the king", "well", "so"], settings=LoreSettings(scan_depth=3))) == [
        "E5"
    ]


def test_depth_zero_reads_no_message() -> None:
    assert uids(run(E5, say="the king", settings=LoreSettings(scan_depth=0))) == []


def test_a_full_budget_lets_in_only_what_ignores_it_and_names_the_rest() -> None:
    free = Entry("free", constant=True, content="Always here.", ignore_budget=True)

    lore = run(free, E3, E5, say="the king", tokens=1)

    assert uids(lore) == ["free"]
    assert {s.entry.uid: s.why for s in lore.skipped} == {"E3": Why.BUDGET, "E5": Why.BUDGET}


def test_a_large_entry_does_not_block_a_small_one_behind_it() -> None:
    large = Entry("large", keys=("king",), content="word " * 50, order=200)

    assert uids(run(large, E5, say="the king", tokens=10)) == ["E5"]


def test_constants_go_first_through_the_budget() -> None:
    keyed = Entry("keyed", keys=("king",), content="one two three", order=900)
    constant = Entry("constant", constant=True, content="four five six", order=1)

    assert uids(run(keyed, constant, say="king", tokens=4)) == ["constant"]


def test_a_book_has_a_budget_of_its_own() -> None:
    lore = run(E3, E5, say="the king", book=lambda entries: Book("b", "b", entries, token_budget=2))

    assert uids(lore) == ["E3"]


def test_chance_zero_is_never_and_hundred_is_always() -> None:
    never = Entry("never", keys=("king",), content="x", probability=0)
    always = Entry("always", keys=("king",), content="x", probability=100)

    lore = run(never, always, say="king")

    assert uids(lore) == ["always"]
    assert lore.skipped[0].why is Why.CHANCE


def test_the_same_seed_throws_the_same_dice() -> None:
    entries = [Entry(str(i), keys=("king",), content="x", probability=50) for i in range(40)]

    first, second = (uids(run(*entries, say="king", seed="abc")) for _ in range(2))

    assert first == second
    assert 0 < len(first) < 40


def test_sticky_stays_for_its_messages_and_cooldown_follows() -> None:
    entry = Entry("s", keys=("king",), content="x", sticky=2, cooldown=2)
    effects = run(entry, say="king", message_count=10).effects

    seen = [
        uids(run(entry, say=text, message_count=count, effects=effects)) == ["s"]
        for count, text in ((11, "so"), (12, "so"), (13, "king"), (14, "king"), (15, "king"))
    ]

    assert seen == [True, True, False, False, True]


def test_regenerating_undoes_the_effects_of_the_reply_that_is_gone() -> None:
    entry = Entry("c", keys=("king",), content="x", cooldown=5)
    effects = run(entry, say="king", message_count=10).effects

    assert uids(run(entry, say="king", message_count=10, effects=effects)) == ["c"]
    assert uids(run(entry, say="king", message_count=11, effects=effects)) == []


def test_editing_an_entry_clears_its_effects() -> None:
    effects = run(Entry("c", keys=("k",), content="old", cooldown=5), say="k").effects

    edited = Entry("c", keys=("k",), content="new", cooldown=5)

    assert uids(run(edited, say="k", message_count=2, effects=effects)) == ["c"]


def test_delay_waits_for_the_conversation_to_grow() -> None:
    entry = Entry("d", keys=("k",), content="x", delay=5)

    assert uids(run(entry, say="k", message_count=4)) == []
    assert uids(run(entry, say="k", message_count=5)) == ["d"]


def test_a_character_filter_keeps_strangers_out() -> None:
    entry = Entry(
        "f",
        constant=True,
        content="x",
        filter=CharacterFilter(frozenset({"Bessie"}), frozenset(), exclude=False),
    )

    assert uids(run(entry, character="Bessie")) == ["f"]
    assert uids(run(entry, character="Rufus")) == []


def test_an_entry_may_scan_the_card_as_well() -> None:
    entry = Entry("m", keys=("dragon",), content="x", also_match=frozenset({"scenario"}))

    assert uids(run(entry, say="hello", texts={"scenario": "A dragon sleeps."})) == ["m"]


def test_decorators_hold_back_and_force() -> None:
    forced = Entry("forced", keys=("nothing",), content="x", decorated=Decorated(forced=True))
    after = Entry("after", constant=True, content="x", decorated=Decorated(only_after=3))

    assert uids(run(forced, after, say="hi", reply_count=2)) == ["forced"]
    assert set(uids(run(forced, after, say="hi", reply_count=3))) == {"forced", "after"}


def test_disabled_and_empty_entries_never_appear() -> None:
    assert uids(run(Entry("off", constant=True, content="x", enabled=False))) == []
    assert uids(run(Entry("empty", constant=True, content="  "))) == []


@pytest.mark.slow
@given(st.lists(st.integers(1, 30), max_size=25), st.integers(0, 60), st.integers())
def test_the_budget_is_never_exceeded(sizes: list[int], tokens: int, seed: int) -> None:
    shuffled = Random(seed)
    entries = [
        Entry(str(i), constant=shuffled.random() < 0.5, keys=("k",), content="w " * size)
        for i, size in enumerate(sizes)
    ]

    lore = run(*entries, say="k", tokens=tokens)

    assert sum(a.tokens for a in lore.activated) <= tokens
    assert len(lore.activated) + len(lore.skipped) == len(sizes)


@pytest.mark.slow
@given(st.lists(st.integers(-5, 500), max_size=20))
def test_entries_stand_in_rising_order(orders: list[int]) -> None:
    entries = [Entry(str(i), constant=True, content="x", order=o) for i, o in enumerate(orders)]

    assert [a.entry.order for a in run(*entries).activated] == sorted(orders)


def test_a_text_that_two_books_have_comes_once() -> None:
    books = [IndexedBook(Book(name, name, (E5,))) for name in ("card", "copy")]
    scene = Scene(messages=(Spoken("Ann", "the king"),), message_count=1, seed="s")
    reader = Reader(LoreSettings(), Budget(1000, words), Patterns())
    lore = scan(books, scene, reader, {})

    assert [(a.book.id, a.text) for a in lore.activated] == [("card", "The king.")]
    assert [(s.book.id, s.why) for s in lore.skipped] == [("copy", Why.TWICE)]


@pytest.mark.parametrize(
    ("say", "comes"),
    [
        ("fire and ice", True),
        ("only fire", False),
        ("only ice", False),
        ("the treaty", True),
        ("fireplace and ice", False),
    ],
)
def test_a_key_of_novelai_needs_each_of_its_parts(say: str, comes: bool) -> None:
    entry = Entry("pact", keys=("fire & ice", "treaty"), joined_keys=True, content="The pact.")

    assert bool(run(entry, say=say).activated) is comes


def test_an_ampersand_in_another_programs_key_is_a_character() -> None:
    entry = Entry("firm", keys=("Smith & Sons",), content="A firm.")

    assert run(entry, say="at Smith & Sons").activated
    assert not run(entry, say="Sons of Smith").activated
