"""The prompt text of one candidate: guard, persona, character card and lore.

The operator's guard comes first and cannot be replaced. A card's own system prompt replaces only
the operator's style, if the configuration allows it.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random

from understudy.conversation.lore.book import Slot
from understudy.conversation.lore.effects import Effects
from understudy.conversation.lore.patterns import PatternAnswers, Patterns
from understudy.conversation.lore.placement import Insert, Placed
from understudy.conversation.lore.scan import IndexedBook, Reader, scan
from understudy.conversation.lore.scene import (
    Budget,
    Lore,
    LoreSettings,
    Scene,
    Spoken,
)
from understudy.conversation.macros import MacroScene, duration_in_words, expand, plain
from understudy.conversation.personas.card import Card
from understudy.conversation.tokens import text_tokens
from understudy.routing.request import Fit

_MAX_ROUNDS = 4
_USUAL_FIT = Fit(None, reply_tokens=0, vision=False, tokens_per_char=0.3)


@dataclass(frozen=True, slots=True)
class PersonaPrompt:
    """Everything of a prompt but the conversation itself."""

    system: str
    examples: tuple[str, ...] = ()
    """Blocks of example dialogue, dropped first when the context is short."""
    inserts: tuple[Insert, ...] = ()
    last: str = ""
    """Placed after the conversation."""
    lore: Lore = field(default_factory=lambda: Lore((), (), {}))


@dataclass(frozen=True, slots=True)
class LoreRules:
    """How lore is scanned and its token budget."""

    scan: LoreSettings = field(default_factory=LoreSettings)
    budget_percent: float = 25.0
    """Of the context."""
    budget_cap: int | None = None
    cache_friendly: bool = False
    """Entries that change between prompts are placed late, so that local engines can reuse their
    prefix cache."""


@dataclass(frozen=True, slots=True)
class ConversationSnapshot:
    """The conversation as macros and lore see it."""

    lines: tuple[Spoken, ...]
    """Newest last."""
    last_from: Mapping[str, str]
    """`user` and `char`: the last message of each."""
    user: str
    """Display name of the person being answered."""
    group: tuple[str, ...]
    now: datetime
    seed: str
    """Per reply: every candidate gets the same random choices."""
    conversation: str
    """Constant in a conversation: `{{pick}}` chooses by it."""
    message_count: int
    reply_count: int
    effects: Effects = field(default_factory=dict)
    variables: MutableMapping[str, str] = field(default_factory=dict)
    """Macro variables of the conversation."""
    idle_s: float | None = None
    """Since the user's previous message."""
    notes: str = ""
    """What the people being answered asked the bot to remember."""


@dataclass(frozen=True, slots=True)
class PersonaTexts:
    """The fixed texts of one persona at one place."""

    name: str
    guard: str
    style: str
    card: Card | None = None
    books: tuple[IndexedBook, ...] = ()
    card_may_replace_style: bool = True


class PersonaPromptBuilder:
    """Builds the prompt text of one reply for each candidate."""

    def __init__(
        self,
        texts: PersonaTexts,
        snapshot: ConversationSnapshot,
        rules: LoreRules,
        patterns: Patterns,
        most_tokens: int,
    ) -> None:
        self._texts = texts
        self._snapshot = snapshot
        self._rules = rules
        self._answers = PatternAnswers(patterns)
        self._in_children = patterns.pool is not None
        self._most_tokens = most_tokens
        self.latest: PersonaPrompt | None = None
        """The last one built: after the reply, that of the candidate which answered."""

    @property
    def lore_effects(self) -> tuple[Effects, int] | None:
        """The effects of the latest prompt and the message count they start at; None without
        lore."""
        if self.latest is None or not self._texts.books:
            return None
        return self.latest.lore.effects, self._snapshot.message_count

    async def prepare(self) -> None:
        """Search the lorebooks' patterns off the event loop; `build` uses what was found."""
        if not (self._in_children and any(book.has_patterns for book in self._texts.books)):
            return
        for _ in range(_MAX_ROUNDS):
            # The text of an entry found in one round is searched in the next.
            self._build(_USUAL_FIT)
            if not await self._answers.resolve():
                return

    def build(self, fit: Fit, lore_tokens: int | None = None) -> PersonaPrompt:
        """The prompt text that fits this candidate, with at most `lore_tokens` of lore."""
        self.latest = self._build(fit, lore_tokens)
        return self.latest

    def _build(self, fit: Fit, lore_tokens: int | None = None) -> PersonaPrompt:
        macros = self._macros(fit)
        lore = self._lore(fit, macros, lore_tokens)
        placed = Placed(
            lore.activated,
            len(self._snapshot.lines),
            cache_friendly=self._rules.cache_friendly,
        )
        scene = replace(macros, outlets=placed.outlets)
        blocks = [self._texts.guard, *self._character(placed, lore, scene)]
        return PersonaPrompt(
            system="\n\n".join(block for block in blocks if block.strip()),
            examples=self._examples(scene),
            inserts=placed.inserts(self._note(scene)),
            last=self._last(lore, scene),
            lore=lore,
        )

    def _character(self, placed: Placed, lore: Lore, scene: MacroScene) -> list[str]:
        card = self._texts.card
        before, after = placed.at(Slot.BEFORE_CHAR), placed.at(Slot.AFTER_CHAR)
        around_examples = placed.at(Slot.BEFORE_EXAMPLES), placed.at(Slot.AFTER_EXAMPLES)
        if card is None:
            return [self._texts.style, before, after, *around_examples]
        personality = f"{self._texts.name}'s personality: {expand(card.personality, scene)}"
        scenario = f"Scenario: {expand(card.scenario, scene)}"
        return [
            self._style(card, lore, scene),
            before,
            expand(card.description, scene),
            personality if card.personality.strip() else "",
            placed.at(Slot.PERSONALITY),
            scenario if card.scenario.strip() else "",
            placed.at(Slot.SCENARIO),
            after,
            *around_examples,
        ]

    def _style(self, card: Card, lore: Lore, scene: MacroScene) -> str:
        if self._replaces(card.system_prompt, "system_prompt", lore):
            return expand(card.system_prompt, scene)
        return self._texts.style

    def _last(self, lore: Lore, scene: MacroScene) -> str:
        card = self._texts.card
        if card is None or not self._replaces(card.post_history, "post_history_instructions", lore):
            return ""
        values = {**scene.values, "original": ""}
        return expand(card.post_history, _with_values(scene, values))

    def _replaces(self, text: str, what: str, lore: Lore) -> bool:
        disabled = any(what in a.entry.decorated.replaces for a in lore.activated)
        return bool(text.strip()) and self._texts.card_may_replace_style and not disabled

    def _note(self, scene: MacroScene) -> Insert | None:
        card = self._texts.card
        if card is None or card.depth_note is None:
            return None
        note = card.depth_note
        return Insert(note.depth, note.role, expand(note.text, scene))

    def _examples(self, scene: MacroScene) -> tuple[str, ...]:
        if self._texts.card is None:
            return ()
        blocks = self._texts.card.examples.split("<START>")
        return tuple(expand(block, scene).strip() for block in blocks if block.strip())

    def _lore(self, fit: Fit, macros: MacroScene, most: int | None) -> Lore:
        if not self._texts.books:
            return Lore((), (), self._snapshot.effects)
        card = self._texts.card
        scene = Scene(
            messages=self._snapshot.lines,
            message_count=self._snapshot.message_count,
            seed=self._snapshot.seed,
            reply_count=self._snapshot.reply_count,
            texts=_scannable(card),
            character=self._texts.name,
            tags=card.tags if card else frozenset(),
        )

        def count(text: str) -> int:
            return text_tokens(text, fit.tokens_per_char)

        tokens = self._lore_tokens(fit)
        budget = Budget(tokens if most is None else min(tokens, most), count)
        reader = Reader(self._rules.scan, budget, self._answers, lambda text: expand(text, macros))
        return scan(self._texts.books, scene, reader, self._snapshot.effects)

    def _lore_tokens(self, fit: Fit) -> int:
        context = min(fit.n_ctx or self._most_tokens, self._most_tokens)
        share = max(1, round(context * self._rules.budget_percent / 100))
        return share if self._rules.budget_cap is None else min(share, self._rules.budget_cap)

    def _macros(self, fit: Fit) -> MacroScene:
        snapshot, card = self._snapshot, self._texts.card
        values = {
            "char": self._texts.name,
            "user": plain(snapshot.user),
            "original": self._texts.style,
            "group": ", ".join(map(plain, snapshot.group)),
            "groupnotmuted": ", ".join(map(plain, snapshot.group)),
            "charifnotgroup": self._texts.name,
            "notchar": plain(snapshot.user),
            "lastmessage": snapshot.lines[-1].text if snapshot.lines else "",
            "lastusermessage": snapshot.last_from.get("user", ""),
            "lastcharmessage": snapshot.last_from.get("char", ""),
            "maxcontexttokens": str(fit.n_ctx or self._most_tokens),
            "maxprompt": str(self._most_tokens),
            "idle_duration": _idle(snapshot.idle_s),
            "maxresponsetokens": str(fit.reply_tokens),
            "notes": snapshot.notes,
        }
        return MacroScene(
            values={**values, **card_values(card)},
            now=snapshot.now,
            random=Random(snapshot.seed),  # noqa: S311 - not a secret
            seed=snapshot.conversation,
            greetings=(card.greeting, *card.alternate_greetings) if card else (),
            variables=snapshot.variables,
        )


def _with_values(scene: MacroScene, values: Mapping[str, str]) -> MacroScene:
    return replace(scene, values=values)


def _idle(seconds: float | None) -> str:
    return "just now" if seconds is None else duration_in_words(seconds)


def card_values(card: Card | None) -> dict[str, str]:
    """The card's own texts by macro name."""
    if card is None:
        return {}
    return {
        "description": card.description,
        "personality": card.personality,
        "scenario": card.scenario,
        "persona": "",
        "mesexamples": card.examples,
        "charprompt": card.system_prompt,
        "charinstruction": card.post_history,
        "chardepthprompt": card.depth_note.text if card.depth_note else "",
        "charversion": card.version,
    }


def _scannable(card: Card | None) -> dict[str, str]:
    if card is None:
        return {}
    return {
        "description": card.description,
        "personality": card.personality,
        "scenario": card.scenario,
        "creator_notes": card.creator_notes,
        "depth_prompt": card.depth_note.text if card.depth_note else "",
    }
