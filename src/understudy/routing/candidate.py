"""A candidate: one model of one provider, with everything the router has to know about it."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from understudy.errors import HoldScope
from understudy.llm.capabilities import NOTHING_KNOWN, Capabilities, ModelKey
from understudy.llm.client import LLMClient
from understudy.routing.records import SkipReason


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of one attempt, in seconds. The connect timeout is the client's own."""

    first_token_s: float = 20.0
    """From sending the request to the first useful output."""
    idle_s: float = 20.0
    """Between two useful outputs."""
    total_s: float = 120.0
    queue_s: float = 2.0
    strict: bool = False
    """Hold to `first_token_s` even as the last candidate."""


USUAL_LIMITS = Limits()


class ScopeKey(NamedTuple):
    """What a cooldown leaves out."""

    scope: HoldScope
    provider: str
    name: str
    """The endpoint, the key's name or the model."""


@dataclass(frozen=True, eq=False)
class Candidate:
    provider: str
    """Its name in the order; `auto` belongs to `openrouter`."""
    model: str
    """Empty where the server chooses."""
    label: str
    """How people read it: the provider's name, `local/<engine>` for `local`."""
    engine: str
    client: LLMClient
    limits: Limits = USUAL_LIMITS
    endpoint: str = ""
    """The base URL: together with the provider's name what goes down together."""
    endpoint_host: str = ""
    key_ref: str | None = None
    """The name its key was found under, never the key."""
    local: bool = False
    """An engine of the operator's own: cheap to probe, and down when it refuses once."""
    reply_tokens: int = 512
    """Tokens to keep free for the reply."""
    max_concurrency: int | None = None
    queue_length: int | None = None
    """How many may stand in line for it; `None` is the usual number."""
    capabilities: Capabilities = NOTHING_KNOWN
    """What the operator configured; wins over everything learned."""
    blind: bool = False
    """Takes images without a word and does not see them, so vision must be known for sure."""
    off: SkipReason | None = None
    """`disabled` or `no_key`: listed, but never tried."""

    @cached_property
    def key(self) -> ModelKey:
        return ModelKey(self.provider, self.model)

    @cached_property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"

    def scope_key(self, scope: HoldScope) -> ScopeKey:
        names = {
            HoldScope.ENDPOINT: self.endpoint,
            HoldScope.KEY: self.key_ref or "",
            HoldScope.KEY_FREE: self.key_ref or "",
            HoldScope.MODEL: self.model,
        }
        return ScopeKey(scope, self.provider, names[scope])

    @cached_property
    def scope_keys(self) -> tuple[ScopeKey, ...]:
        """Every cooldown that leaves this candidate out."""
        scopes = [HoldScope.ENDPOINT, HoldScope.KEY, HoldScope.MODEL]
        if self.model.endswith(":free"):
            scopes.append(HoldScope.KEY_FREE)
        return tuple(self.scope_key(scope) for scope in scopes)

    def answers_to(self, name: str) -> bool:
        """Whether `name` in an order means this candidate: its provider, or provider/model."""
        return name in (self.provider, self.name)
