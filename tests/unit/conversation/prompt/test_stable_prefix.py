"""What consecutive prompts of a conversation have in common from their start.

Servers reuse what they have read of a prompt, up to the first change.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest

from conversation_driver import ANN, BOB, FIT
from sample_lines import BOT, line
from understudy.conversation.inbox import Line
from understudy.conversation.lore.book import Book, Entry
from understudy.conversation.lore.patterns import Patterns
from understudy.conversation.lore.scan import IndexedBook
from understudy.conversation.lore.scene import Spoken
from understudy.conversation.personas.card import Card
from understudy.conversation.personas.registry import BUILT_IN_GUARD, BUILT_IN_STYLE
from understudy.conversation.prompt.builder import PromptSource, build_prompt
from understudy.conversation.prompt.persona_prompt import (
    ConversationSnapshot,
    LoreRules,
    PersonaPromptBuilder,
    PersonaTexts,
)
from understudy.conversation.remembered import Remembered
from understudy.llm.messages import TextPart

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
TEXTS = PersonaTexts("Bessie", BUILT_IN_GUARD, BUILT_IN_STYLE)
TALK = tuple(line(n, f"message {n}", BOT if n % 2 else ANN) for n in range(10, 30))
REMEMBERED = Remembered(
    notes=((ANN, "note-tea"),),
    excerpts=(line(3, "recalled-3"),),
    excerpt_tokens=400,
    summary="summarized facts",
    summary_first=1,
)


def prompt_at(
    turn: int, texts: PersonaTexts = TEXTS, *, shared: bool = False, lore: LoreRules | None = None
) -> str:
    """The prompt for question `turn` of the same conversation, an hour after the one before."""
    said = [line(30 + n, f"question {n}" if n % 2 == 0 else "answer", BOT if n % 2 else ANN)
            for n in range(2 * turn + 1)]  # fmt: skip
    lines: tuple[Line, ...] = (*TALK, *said)
    asking = BOB if shared and turn % 2 else ANN
    remembered = replace(
        REMEMBERED,
        notes=((asking, f"note of {asking.name}"),),
        excerpts=(line(3 + turn, f"recalled {turn}"),),
    )
    snapshot = ConversationSnapshot(
        lines=tuple(Spoken(one.author.name, one.text) for one in lines),
        last_from={"user": lines[-1].text},
        user=asking.name,
        group=("Ann", "Bob"),
        now=NOON + timedelta(hours=turn),
        seed=f"r{turn}",
        conversation="c1",
        message_count=len(lines),
        reply_count=turn,
    )
    persona = PersonaPromptBuilder(texts, snapshot, lore or LoreRules(), Patterns(), 6000)
    source = PromptSource(
        stage=persona.build,
        bot_name="Bessie",
        lines=lines,
        current=frozenset((lines[-1].seq,)),
        shared=shared,
        most_tokens=6000,
        remembered=remembered,
    )
    parts = [
        part.text
        for message in build_prompt(source, FIT).request.messages
        for part in message.parts
        if isinstance(part, TextPart)
    ]
    return "\n".join(parts)


def common(one: str, other: str) -> str:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(character for character, _ in same)


@pytest.mark.parametrize("shared", [False, True], ids=["in private", "in a channel"])
def test_everything_up_to_the_last_question_stays_the_same(*, shared: bool) -> None:
    first, second = prompt_at(1, shared=shared), prompt_at(2, shared=shared)

    same = common(first, second)

    assert same.startswith(BUILT_IN_GUARD)
    marks = ["summarized facts", "message 10", "message 29", "question 0", "answer"]
    marks += [] if shared else ["note of Ann"]
    assert [mark for mark in marks if mark not in same] == []
    assert "recalled 1" in first.removeprefix(same)
    assert "note of Bob" in (first.removeprefix(same) if shared else "note of Bob")


def test_the_time_is_in_the_prefix_only_where_the_persona_has_it() -> None:
    plain = replace(TEXTS, card=Card("Bessie", "v2", b"", description="A cow. The end."))
    clocked = replace(TEXTS, card=Card("Bessie", "v2", b"", description="At {{time}}. The end."))

    assert "The end." in common(prompt_at(1, plain), prompt_at(2, plain))
    assert "message 10" in common(prompt_at(1, plain), prompt_at(2, plain))
    assert "The end." not in common(prompt_at(1, clocked), prompt_at(2, clocked))


@pytest.mark.parametrize(("cache_friendly", "stays"), [(False, False), (True, True)])
def test_changing_lore_is_after_the_stable_part_where_its_placement_is_cache_friendly(
    *, cache_friendly: bool, stays: bool
) -> None:
    entry = Entry("1", keys=("question 4",), content="lorefact")
    texts = replace(TEXTS, books=(IndexedBook(Book("b", "b", (entry,))),))
    rules = LoreRules(cache_friendly=cache_friendly)
    first, second = prompt_at(1, texts, lore=rules), prompt_at(2, texts, lore=rules)

    assert "lorefact" in second
    assert ("message 10" in common(first, second)) == stays
