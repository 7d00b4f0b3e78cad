"""What tokens cost, where a server does not name the cost itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from understudy.llm.messages import Usage

UNBILLED_ENGINES = frozenset(("koboldcpp", "llama.cpp", "textgen-webui", "builtin"))
"""Engines that people run themselves: their tokens are not billed."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token, plus what each request costs besides."""

    input_usd: float
    output_usd: float
    cache_read_usd: float | None = None
    """`None`: cached input costs as much as any other."""
    request_usd: float = 0.0

    @property
    def free(self) -> bool:
        return not (self.input_usd or self.output_usd or self.request_usd)

    def cost(self, usage: Usage) -> float:
        cached = min(usage.cache_read_tokens, usage.input_tokens)
        cached_usd = self.input_usd if self.cache_read_usd is None else self.cache_read_usd
        return (
            (usage.input_tokens - cached) * self.input_usd
            + cached * cached_usd
            + usage.output_tokens * self.output_usd
            + self.request_usd
        )


_FREE = Price(0.0, 0.0)


class PriceBook:
    """The price lists of all providers, as far as they are known so far.

    Shared by everyone who asks for a price; `learn` replaces a provider's list when it was read.
    """

    def __init__(self, configured: Mapping[str, Price] | None = None) -> None:
        self._configured = dict(configured or {})
        """The operator's own price per provider; wins over every list."""
        self._lists: dict[str, Mapping[str, Price]] = {}

    def learn(self, provider: str, prices: Mapping[str, Price]) -> None:
        self._lists[provider] = dict(prices)

    def price(self, provider: str, engine: str, models: tuple[str, str]) -> Price | None:
        """Of a model asked for and the one that answered; `None` where it is unknown. Free variants
        and engines at home need no list."""
        asked, served = models
        if (configured := self._configured.get(provider)) is not None:
            return configured
        if engine in UNBILLED_ENGINES or (engine == "openrouter" and is_free_variant(asked)):
            return _FREE
        listed = self._lists.get(provider)
        return None if listed is None else listed.get(served) or listed.get(asked)

    def is_free(self, provider: str, engine: str, model: str) -> bool:
        """Whether a request is sure to cost nothing; an unknown price is not."""
        price = self.price(provider, engine, (model, model))
        return price is not None and price.free


def is_free_variant(model: str) -> bool:
    """OpenRouter names what costs nothing: `…:free`, and its router over all of those."""
    return model.endswith(":free") or model == "openrouter/free"
