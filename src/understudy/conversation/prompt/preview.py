"""Preview of the lore a text activates and the resulting prompt: `lore test`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from understudy.conversation.lore.patterns import Patterns
from understudy.conversation.lore.scene import Activated, By, Lore, Spoken, Why
from understudy.conversation.messages import Place
from understudy.conversation.personas.registry import Persona, Personas
from understudy.conversation.prompt.persona_prompt import (
    ConversationSnapshot,
    PersonaPrompt,
    PersonaPromptBuilder,
)
from understudy.conversation.tokens import text_tokens
from understudy.routing.request import Fit

_MOST_NAMES = 10
_REASONS = {
    By.IGNORING_BUDGET: "outside the budget",
    By.CONSTANT: "always",
    By.STICKY: "still from before",
    By.KEY: "named",
    By.RECURSION: "named by another entry",
    By.SPARE: "while there is room",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of the final prompt."""

    name: str
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Preview:
    persona: str
    lore: Lore
    pieces: tuple[Piece, ...]

    @property
    def tokens(self) -> int:
        return sum(piece.tokens for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Question:
    """The text to preview, and where."""

    text: str
    place: Place
    persona: Persona
    fit: Fit
    most_tokens: int
    now: datetime
    speaker: str = "You"


def preview(personas: Personas, question: Question) -> Preview:
    """The prompt for `question.text` as the first message at its place."""
    texts = personas.texts(question.persona, question.place)
    snapshot = ConversationSnapshot(
        lines=(Spoken(question.speaker, question.text),),
        last_from={"user": question.text, "char": ""},
        user=question.speaker,
        group=(question.speaker,),
        now=question.now,
        seed="preview",
        conversation="preview",
        message_count=1,
        reply_count=0,
    )
    builder = PersonaPromptBuilder(
        texts, snapshot, personas.rules, Patterns(), question.most_tokens
    )
    prompt = builder.build(question.fit)
    return Preview(question.persona.name, prompt.lore, tuple(_pieces(prompt, question)))


def lore_left_out(personas: Personas, persona: Persona, most_tokens: int, now: datetime) -> str:
    """Which of a persona's constant entries never fit the budget, as a sentence; "" for none."""
    fit = Fit(None, reply_tokens=0, vision=False, tokens_per_char=0.3)
    place = Place("terminal", "", private=True)
    lore = preview(personas, Question("", place, persona, fit, most_tokens, now)).lore
    missing = [s.entry for s in lore.skipped if s.entry.constant and s.why is Why.BUDGET]
    if not missing:
        return ""
    number = len(missing) + sum(a.entry.constant for a in lore.activated)
    names = ", ".join(entry.title or entry.uid for entry in missing[:_MOST_NAMES])
    more = f" and {len(missing) - _MOST_NAMES} more" if len(missing) > _MOST_NAMES else ""
    return (
        f"{len(missing)} of {number} constant lore entries do not fit the lore's budget "
        f"(persona.lore.budget_percent, conversation.max_prompt_tokens) and are left out of "
        f"prompts: {names}{more}"
    )


def _pieces(prompt: PersonaPrompt, question: Question) -> Iterator[Piece]:
    def piece(name: str, text: str) -> Piece:
        return Piece(name, text, text_tokens(text, question.fit.tokens_per_char))

    yield piece("system", prompt.system)
    for example in prompt.examples:
        yield piece("example", example)
    for insert in prompt.inserts:
        yield piece(f"at depth {insert.depth}, as {insert.role}", insert.text)
    yield piece("message", question.text)
    if prompt.last:
        yield piece("last", prompt.last)


def describe(shown: Preview) -> str:
    """The preview as text: entries with reasons, and each part of the prompt with its size."""
    parts = [f"As {shown.persona}:", *describe_lore(shown.lore)]
    parts += [f"\n── {p.name}, about {p.tokens} tokens\n{p.text}" for p in shown.pieces]
    return "\n".join([*parts, f"\nAbout {shown.tokens} tokens in all."])


def describe_lore(lore: Lore) -> list[str]:
    """A line for each activated or skipped entry."""
    lines = [
        f"+ {_title(a)} — {_REASONS[a.by]}{_by_key(a.key)}, {a.tokens} tokens"
        for a in lore.activated
    ]
    lines += [
        f"- {s.entry.title or s.entry.uid} ({s.book.name}) — {s.why}{_by_key(s.key)}"
        for s in lore.skipped
    ]
    return lines or ["Nothing came up."]


def _title(activated: Activated) -> str:
    return f"{activated.entry.title or activated.entry.uid} ({activated.book.name})"


def _by_key(key: str | None) -> str:
    return "" if key is None else f" by “{key}”"
