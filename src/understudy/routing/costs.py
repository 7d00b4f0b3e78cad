"""What attempts used and cost, and how sure that is."""

from collections.abc import Iterable

from understudy.llm.messages import Usage, UsageSource
from understudy.llm.pricing import UNBILLED_ENGINES, Price, PriceBook
from understudy.routing.records import AttemptRecord, CostSource


def cost_of(
    prices: PriceBook, provider: str, engine: str, models: tuple[str, str], usage: Usage | None
) -> tuple[float | None, CostSource]:
    """The cost of an attempt that was sent, in US dollars; `models` are the one that was asked for
    and the one that answered.

    The server's own figure wins, then the price list; without either it is unknown. What was asked
    for as a free variant is free, also when its answer bears the name of the paid one.
    """
    if usage is not None and usage.cost_usd is not None:
        return usage.cost_usd, CostSource.REPORTED
    price = prices.price(provider, engine, models)
    cost = _listed(price, usage)
    if cost is None:
        return None, CostSource.UNKNOWN
    unbilled = engine in UNBILLED_ENGINES and price is not None and price.free
    return cost, CostSource.UNBILLED if unbilled else CostSource.LISTED


def _listed(price: Price | None, usage: Usage | None) -> float | None:
    if price is None:
        return None
    if usage is None:
        return 0.0 if price.free else None
    return price.cost(usage)


_LEAST_SURE = (UsageSource.NONE, UsageSource.ESTIMATED, UsageSource.DERIVED, UsageSource.REPORTED)


def sum_usage(attempts: Iterable[AttemptRecord]) -> Usage | None:
    """The tokens of all attempts together, as sure as the least sure of them."""
    known = [a.usage for a in attempts if a.usage is not None]
    if len(known) < 2:
        return known[0] if known else None
    costs = [usage.cost_usd for usage in known if usage.cost_usd is not None]
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in known),
        output_tokens=sum(usage.output_tokens for usage in known),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in known),
        cache_read_tokens=sum(usage.cache_read_tokens for usage in known),
        cache_write_tokens=sum(usage.cache_write_tokens for usage in known),
        source=min((usage.source for usage in known), key=_LEAST_SURE.index),
        cost_usd=sum(costs) if costs else None,
    )
