"""What models accept: facts from four sources, the surest one winning field by field."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
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


_facts = attrgetter(*(fact.name for fact in fields(Capabilities)))
NOTHING_KNOWN = Capabilities()


class ModelKey(NamedTuple):
    provider: str
    model: str


@dataclass(slots=True, eq=False)
class ModelFacts:
    """What is known of one model, apart from its configuration."""

    discovered: Capabilities = NOTHING_KNOWN
    learned: Capabilities = NOTHING_KNOWN
    learned_until: float = 0.0
    refused: dict[str, float] = field(default_factory=dict)
    """Parameters that its server rejects, and until when that is believed."""
    tokens_per_char: float = USUAL_TOKENS_PER_CHAR
    """Tokens per UTF-8 byte of text."""
    measured: bool = False
    """Whether the ratio comes from the model's own figures."""
    version: int = 0
    """Rises when anything but the ratio changes."""

    def known(self, now: float) -> Capabilities:
        if self.learned is NOTHING_KNOWN or now >= self.learned_until:
            return self.discovered
        return self.learned.over(self.discovered)

    def omissions(self, now: float) -> tuple[str, ...]:
        return tuple(name for name, until in self.refused.items() if now < until)

    def constant_until(self, now: float) -> float:
        """When `known` or `omissions` changes by time alone."""
        ends = (self.learned_until, *self.refused.values())
        return min((end for end in ends if now < end), default=math.inf)


class CapabilityBook:
    """What is known of each model. Precedence: configured, learned, discovered.

    Shared by routers across reloads, so that nothing has to be learned twice; what is configured
    is passed in with each question and so changes with the configuration.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._models: dict[ModelKey, ModelFacts] = {}

    def model(self, key: ModelKey) -> ModelFacts:
        """Return the facts of one model, which change when something is learned."""
        facts = self._models.get(key)
        if facts is None:
            facts = self._models[key] = ModelFacts()
        return facts

    def of(self, key: ModelKey, configured: Capabilities = NOTHING_KNOWN) -> Capabilities:
        return configured.over(self.model(key).known(self._clock()))

    def learn(self, key: ModelKey, facts: Capabilities) -> None:
        """Believe for a day what a model's own server said by refusing or accepting."""
        model, now = self.model(key), self._clock()
        model.learned = facts.over(model.learned) if now < model.learned_until else facts
        model.learned_until = now + MEMORY_S
        model.version += 1

    def discover(self, key: ModelKey, facts: Capabilities) -> None:
        """Store the facts of a probe or a model list; unknown ones keep their earlier values."""
        model = self.model(key)
        model.discovered = facts.over(model.discovered)
        model.version += 1

    def learn_omission(self, key: ModelKey, parameter: str) -> None:
        model = self.model(key)
        model.refused[parameter] = self._clock() + MEMORY_S
        model.version += 1

    def omissions(self, key: ModelKey) -> tuple[str, ...]:
        """Parameters this model's server refuses."""
        return self.model(key).omissions(self._clock())

    def tokens_per_char(self, key: ModelKey) -> float:
        """Tokens per UTF-8 byte of text."""
        return self.model(key).tokens_per_char

    def learn_tokens(self, key: ModelKey, *, tokens: int, chars: int) -> None:
        """Draw the estimate towards what a server reported for a prompt of `chars` bytes."""
        if chars < LEAST_CHARS or tokens <= 0:
            return
        model, seen = self.model(key), tokens / chars
        if model.measured and seen < model.tokens_per_char:
            seen = model.tokens_per_char + (seen - model.tokens_per_char) * _FALL
        self.set_tokens_per_char(key, seen)

    def set_tokens_per_char(self, key: ModelKey, ratio: float) -> None:
        """Believe an exact count."""
        model = self.model(key)
        model.tokens_per_char = min(max(ratio, _LEAST_TOKENS_PER_BYTE), MOST_TOKENS_PER_BYTE)
        model.measured = True

    def has_measured_tokens(self, key: ModelKey) -> bool:
        """Whether the ratio comes from the model's own figures."""
        return self.model(key).measured

    def learned_tokens_per_char(self) -> dict[ModelKey, float]:
        """Every ratio learned so far, to be set again at the next start."""
        return {key: m.tokens_per_char for key, m in self._models.items() if m.measured}

    def learn_underestimate(self, key: ModelKey, factor: float) -> None:
        """Raise the estimate of a model that refused a prompt thought to fit."""
        self.set_tokens_per_char(key, self.tokens_per_char(key) * factor)
