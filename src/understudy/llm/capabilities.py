"""What models accept: facts from four sources, the surest one winning field by field."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import NamedTuple

MEMORY_S = 24 * 3600.0
"""How long something learned from a refusal is believed: models get swapped."""
USUAL_TOKENS_PER_CHAR = 1 / 3.3
MOST_TOKENS_PER_BYTE = 1.3
"""What the dearest tokenizer needs: one token for each byte, and some for word beginnings."""
_LEAST_TOKENS_PER_BYTE = 0.1
LEAST_CHARS = 200
"""Below this the chat template's own tokens would dominate what is learned."""
_FALL = 0.25
"""How far one reply lowers an estimate; it is raised at once, because too low a one is refused."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one model accepts; `None` is not known."""

    vision: bool | None = None
    tools: bool | None = None
    n_ctx: int | None = None
    """Context length in tokens, prompt and reply together."""
    supports_completions: bool | None = None
    """Whether it goes on from a bare prompt."""
    opens_thought: bool | None = None
    """Whether its chat template opens a thought, so that only the end of one comes."""
    slots: int | None = None
    """How many requests its server works on at once."""

    def over(self, other: "Capabilities") -> "Capabilities":
        """These facts, with those of `other` where these are silent."""
        if self is NOTHING_KNOWN or other is NOTHING_KNOWN:
            return other if self is NOTHING_KNOWN else self
        pairs = zip(_facts(self), _facts(other), strict=True)
        return Capabilities(*(there if here is None else here for here, there in pairs))


_facts = attrgetter(*(field.name for field in fields(Capabilities)))
NOTHING_KNOWN = Capabilities()


class ModelKey(NamedTuple):
    provider: str
    model: str


@dataclass(slots=True)
class _Lesson:
    facts: Capabilities
    until: float


class CapabilityBook:
    """What is known of each model. Precedence: configured, learned, discovered.

    Shared by routers across reloads, so that nothing has to be learned twice; what is configured
    is passed in with each question and so changes with the configuration.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._learned: dict[ModelKey, _Lesson] = {}
        self._discovered: dict[ModelKey, Capabilities] = {}
        self._omit: dict[ModelKey, dict[str, float]] = {}
        self._tokens_per_char: dict[ModelKey, float] = {}

    def of(self, key: ModelKey, configured: Capabilities = NOTHING_KNOWN) -> Capabilities:
        known = self._discovered.get(key, NOTHING_KNOWN)
        lesson = self._learned.get(key)
        if lesson is not None and self._clock() < lesson.until:
            known = lesson.facts.over(known)
        return configured if known is NOTHING_KNOWN else configured.over(known)

    def prompt_facts(
        self, key: ModelKey, configured: Capabilities
    ) -> tuple[Capabilities, float, tuple[str, ...]]:
        """What a prompt is built by: `of`, `tokens_per_char` and `omissions` together."""
        ratio = self._tokens_per_char.get(key, USUAL_TOKENS_PER_CHAR)
        omitted = self.omissions(key) if self._omit else ()
        return self.of(key, configured), ratio, omitted

    def learn(self, key: ModelKey, facts: Capabilities) -> None:
        """Believe for a day what a model's own server said by refusing or accepting."""
        lesson = self._learned.get(key)
        now = self._clock()
        if lesson is not None and now < lesson.until:
            facts = facts.over(lesson.facts)
        self._learned[key] = _Lesson(facts, now + MEMORY_S)

    def discover(self, key: ModelKey, facts: Capabilities) -> None:
        """Store the facts of a probe or a model list; unknown ones keep their earlier values."""
        self._discovered[key] = facts.over(self._discovered.get(key, NOTHING_KNOWN))

    def learn_omission(self, key: ModelKey, parameter: str) -> None:
        self._omit.setdefault(key, {})[parameter] = self._clock() + MEMORY_S

    def omissions(self, key: ModelKey) -> tuple[str, ...]:
        """Parameters this model's server refuses."""
        refused = self._omit.get(key)
        if not refused:
            return ()
        now = self._clock()
        return tuple(name for name, until in refused.items() if now < until)

    def tokens_per_char(self, key: ModelKey) -> float:
        """Tokens per UTF-8 byte of text."""
        return self._tokens_per_char.get(key, USUAL_TOKENS_PER_CHAR)

    def learn_tokens(self, key: ModelKey, *, tokens: int, chars: int) -> None:
        """Draw the estimate towards what a server reported for a prompt of `chars` bytes."""
        if chars < LEAST_CHARS or tokens <= 0:
            return
        seen = tokens / chars
        known = self._tokens_per_char.get(key)
        if known is not None and seen < known:
            seen = known + (seen - known) * _FALL
        self.set_tokens_per_char(key, seen)

    def set_tokens_per_char(self, key: ModelKey, ratio: float) -> None:
        """Believe an exact count."""
        self._tokens_per_char[key] = min(max(ratio, _LEAST_TOKENS_PER_BYTE), MOST_TOKENS_PER_BYTE)

    def has_measured_tokens(self, key: ModelKey) -> bool:
        """Whether the ratio comes from the model's own figures."""
        return key in self._tokens_per_char

    def learned_tokens_per_char(self) -> dict[ModelKey, float]:
        """Every ratio learned so far, to be set again at the next start."""
        return dict(self._tokens_per_char)

    def learn_underestimate(self, key: ModelKey, factor: float) -> None:
        """Raise the estimate of a model that refused a prompt thought to fit."""
        self.set_tokens_per_char(key, self.tokens_per_char(key) * factor)
