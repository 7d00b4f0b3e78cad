"""Reported first, listed next, else unknown; never a made-up 0."""

import pytest

from sample_records import answered, failed
from understudy.errors import ErrorClass
from understudy.llm.messages import Usage, UsageSource
from understudy.llm.pricing import Price, PriceBook
from understudy.routing.recorder import cost_of, sum_usage
from understudy.routing.records import CostSource

LIST = {"lab/model": Price(1e-6, 2e-6, cache_read_usd=1e-7)}


@pytest.fixture
def prices() -> PriceBook:
    book = PriceBook()
    book.learn("openrouter", LIST)
    return book


def test_the_cost_a_server_reports_wins_over_the_list(prices: PriceBook) -> None:
    usage = Usage(1000, 100, cost_usd=0.5)

    assert cost_of(prices, "openrouter", "openrouter", ("lab/model", "lab/model"), usage) == (
        0.5,
        CostSource.REPORTED,
    )


def test_a_reported_cost_of_nothing_is_a_fact_and_stays(prices: PriceBook) -> None:
    usage = Usage(1000, 100, cost_usd=0.0)

    assert cost_of(prices, "openrouter", "openrouter", ("lab/model", "lab/model"), usage) == (
        0.0,
        CostSource.REPORTED,
    )


def test_a_listed_price_counts_cached_input_at_its_own_rate(prices: PriceBook) -> None:
    usage = Usage(1000, 100, cache_read_tokens=400)

    cost, source = cost_of(prices, "openrouter", "openrouter", ("lab/model", "lab/model"), usage)

    assert cost == pytest.approx(600e-6 + 40e-6 + 200e-6)
    assert source is CostSource.LISTED


@pytest.mark.parametrize(
    ("provider", "engine", "model", "usage"),
    [
        ("openrouter", "openrouter", "lab/other", Usage(1000, 100)),
        ("openrouter", "openrouter", "lab/model", None),
        ("groq", "openai", "lab/model", Usage(1000, 100)),
    ],
    ids=["a model not in the list", "no usage", "a provider without a list"],
)
def test_what_nobody_knows_is_unknown(
    prices: PriceBook, provider: str, engine: str, model: str, usage: Usage | None
) -> None:
    assert cost_of(prices, provider, engine, (model, model), usage) == (None, CostSource.UNKNOWN)


def test_a_free_variant_costs_nothing_even_when_it_tells_no_usage(prices: PriceBook) -> None:
    assert cost_of(prices, "openrouter", "openrouter", ("lab/model:free", "lab/model"), None) == (
        0.0,
        CostSource.LISTED,
    )


def test_an_engine_at_home_is_unbilled_unless_its_operator_named_a_price() -> None:
    rented = PriceBook({"rented": Price(0.25, 0.5)})

    assert cost_of(rented, "local", "koboldcpp", ("tiny", "tiny"), Usage(10, 10)) == (
        0.0,
        CostSource.UNBILLED,
    )
    assert cost_of(rented, "rented", "koboldcpp", ("tiny", "tiny"), Usage(10, 20)) == (
        12.5,
        CostSource.LISTED,
    )


def test_only_a_price_known_to_be_nothing_is_free(prices: PriceBook) -> None:
    assert prices.is_free("openrouter", "openrouter", "openrouter/free")
    assert prices.is_free("local", "llama.cpp", "")
    assert not prices.is_free("openrouter", "openrouter", "lab/model")
    assert not prices.is_free("groq", "openai", "anything")


def test_a_replys_usage_counts_discarded_attempts_and_is_as_sure_as_the_least_sure() -> None:
    attempts = (
        failed("a", ErrorClass.TRUNCATED_STREAM, usage=Usage(10, 3, source=UsageSource.ESTIMATED)),
        failed("b", ErrorClass.CONNECT_REFUSED),
        answered("c", usage=Usage(12, 5, reasoning_tokens=2, cost_usd=0.5)),
    )

    assert sum_usage(attempts) == Usage(
        22, 8, reasoning_tokens=2, source=UsageSource.ESTIMATED, cost_usd=0.5
    )


def test_a_reply_without_any_known_usage_has_none() -> None:
    assert sum_usage((failed("b", ErrorClass.CONNECT_REFUSED),)) is None
