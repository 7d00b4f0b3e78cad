"""What is known of a model, from where, and for how long."""

from dataclasses import asdict, dataclass, fields

from hypothesis import given
from hypothesis import strategies as st

from understudy.llm.capabilities import (
    MEMORY_S,
    USUAL_TOKENS_PER_CHAR,
    Capabilities,
    CapabilityBook,
    ModelKey,
)

MODEL = ModelKey("home", "m")
FACTS = st.builds(
    Capabilities,
    vision=st.none() | st.booleans(),
    tools=st.none() | st.booleans(),
    n_ctx=st.none() | st.integers(256, 200_000),
    slots=st.none() | st.integers(1, 8),
)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def first_known(*facts: Capabilities) -> dict[str, object]:
    """Each field as the first of them tells it."""
    return {
        f.name: next((v for one in facts if (v := getattr(one, f.name)) is not None), None)
        for f in fields(Capabilities)
    }


@given(FACTS, FACTS, FACTS)
def test_configured_wins_over_learned_and_learned_over_discovered_field_by_field(
    configured: Capabilities, learned: Capabilities, discovered: Capabilities
) -> None:
    book = CapabilityBook(Clock())
    book.discover(MODEL, discovered)
    book.learn(MODEL, learned)

    known = asdict(book.of(MODEL, configured))
    assert known == first_known(configured, learned, discovered)


def test_a_lesson_is_forgotten_after_a_day_and_what_was_discovered_stands_again() -> None:
    clock = Clock()
    book = CapabilityBook(clock)
    book.discover(MODEL, Capabilities(vision=True, n_ctx=8192))
    book.learn(MODEL, Capabilities(vision=False))
    book.learn_omission(MODEL, "top_p")

    clock.now = MEMORY_S - 1
    known, omitted = book.of(MODEL), book.omissions(MODEL)
    clock.now = MEMORY_S + 1

    assert (known.vision, omitted) == (False, ("top_p",))
    assert book.of(MODEL) == Capabilities(vision=True, n_ctx=8192)
    assert book.omissions(MODEL) == ()


def test_a_second_lesson_does_not_undo_the_first() -> None:
    book = CapabilityBook(Clock())

    book.learn(MODEL, Capabilities(vision=False))
    book.learn(MODEL, Capabilities(n_ctx=4096))

    assert book.of(MODEL) == Capabilities(vision=False, n_ctx=4096)


def test_what_one_model_teaches_says_nothing_of_another() -> None:
    book = CapabilityBook(Clock())

    book.learn(MODEL, Capabilities(vision=False))
    book.learn_omission(MODEL, "top_p")

    assert book.of(ModelKey("home", "other")) == Capabilities()
    assert book.omissions(ModelKey("away", "m")) == ()


@given(st.lists(st.tuples(st.integers(-5, 10**6), st.integers(0, 10**6)), max_size=20))
def test_no_count_makes_the_estimate_absurd(counts: list[tuple[int, int]]) -> None:
    book = CapabilityBook(Clock())
    for tokens, chars in counts:
        book.learn_tokens(MODEL, tokens=tokens, chars=chars)
        book.learn_underestimate(MODEL, 1.2)

    assert USUAL_TOKENS_PER_CHAR / 4 < book.tokens_per_char(MODEL) <= 2.0
