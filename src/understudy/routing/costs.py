"""What one attempt cost, and how sure that is."""

from understudy.chat import Usage
from understudy.llm.prices import UNBILLED_ENGINES, Price, PriceBook
from understudy.routing.attempts import CostSource


def cost_of(
    prices: PriceBook, provider: str, engine: str, model: str, usage: Usage | None
) -> tuple[float | None, CostSource]:
    """The cost of an attempt that was sent, in US dollars; `model` is the one that answered.

    The server's own figure wins, then the price list; without either it is unknown.
    """
    if usage is not None and usage.cost_usd is not None:
        return usage.cost_usd, CostSource.REPORTED
    price = prices.price(provider, engine, model)
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
