"""OpenRouter: attribution, `:free` limits, router metadata, and a prompt that stays ours."""

from understudy.errors import ErrorClass, HoldScope
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.dialect import Dialect, Wording
from understudy.llm.error_parser import ErrorFacts
from understudy.llm.messages import ChatRequest, Message
from understudy.llm.model_list import ModelList
from understudy.llm.openai_client import OpenAIClient


def _scope_of(facts: ErrorFacts, error_class: ErrorClass) -> HoldScope | None:
    """A 429 is the key's only when OpenRouter itself counts, and then only for `:free` models."""
    if error_class is not ErrorClass.RATE_LIMITED:
        return None
    own = (
        facts.limit_source == "openrouter_free_tier_daily"
        or "free-models-per-" in facts.message
        or any(name.lower().startswith("x-ratelimit-") for name, _ in facts.headers)
    )
    return HoldScope.KEY_FREE if own else HoldScope.MODEL


DIALECT = Dialect(
    engine="openrouter",
    base_url="https://openrouter.ai/api/v1",
    id_header=b"x-generation-id",
    asks_usage=False,  # always reported; the request for it is a deprecated no-op
    withheld=frozenset(("models", "route", "provider", "plugins")),
    headers=(
        ("HTTP-Referer", "http://localhost/understudy"),
        ("X-OpenRouter-Title", "Understudy"),
        ("X-OpenRouter-Categories", "roleplay,general-chat"),
        ("X-OpenRouter-Metadata", "enabled"),
    ),
    wordings=(
        Wording("no endpoints found", ErrorClass.MODEL_GONE, frozenset((404,))),
        Wording("requires more credits", ErrorClass.QUOTA),
    ),
    scope_of=_scope_of,
)

_SORTING = ("nitro", "floor", "exacto", "online")
_NO_COMPRESSION = ({"id": "context-compression", "enabled": False},)
"""Models of up to 8k context otherwise lose messages from the middle of the prompt, silently."""

_CACHED_ON_REQUEST = ("anthropic/", "~anthropic/")
"""Models that cache a prompt only up to a marked part; the others do it by themselves, or not.

https://openrouter.ai/docs/features/prompt-caching
"""
_CACHE_MARK = {"type": "ephemeral"}


class OpenRouterClient(OpenAIClient):
    async def probe(self, model: str) -> ProbeReport:
        return await self.key_refusal("/key") or await super().probe(model)

    def report(self, models: ModelList, model: str) -> ProbeReport:
        """Its own routers and `~…-latest` names are in no list; a suffix names no other model."""
        if model.startswith(("openrouter/", "~")) and models.find(model) is None:
            return ProbeReport(ProbeState.READY, model=model, models=models.ids)
        base, _, suffix = model.rpartition(":")
        known = suffix in _SORTING and models.find(model) is None
        return super().report(models, base if known else model)

    def members(self, request: ChatRequest) -> dict[str, object]:
        members = {"plugins": _NO_COMPRESSION} | super().members(request)
        if self.facts.provider:
            members["provider"] = self.facts.provider
        return members

    def encoded_turns(self, messages: tuple[Message, ...], model: str) -> list[dict[str, object]]:
        """With a mark after the system text, which is the part that stays the same."""
        turns = super().encoded_turns(messages, model)
        if turns and model.startswith(_CACHED_ON_REQUEST) and turns[0]["role"] == "system":
            part = {"type": "text", "text": turns[0]["content"], "cache_control": _CACHE_MARK}
            turns[0]["content"] = [part]
        return turns
