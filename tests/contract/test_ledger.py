"""The contract of the ledger, over every database."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from postgres_server import KINDS, database_location
from sample_records import NOON, answered, attempt, failed, reply, skipped
from understudy.errors import ErrorClass
from understudy.llm.client import Phase
from understudy.llm.messages import Usage, UsageSource
from understudy.routing.ledger import AttemptFilter, Grouping, Spent, UsageRow
from understudy.routing.records import (
    CostSource,
    Origin,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
    SkipReason,
)
from understudy.storage.database import Database
from understudy.storage.ledger import Ledger

DAY_S = 86_400.0


@pytest.fixture(params=KINDS)
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Ledger]:
    with database_location(request.param, tmp_path) as location:
        database = await Database.open(location)
        yield Ledger(database)
        await database.aclose()


async def all_usage(ledger: Ledger, by: Grouping) -> tuple[UsageRow, ...]:
    return await ledger.usage(by, NOON - 10 * DAY_S, NOON + 10 * DAY_S)


async def test_a_failed_over_reply_counts_the_tokens_of_every_attempt(ledger: Ledger) -> None:
    broken = failed(
        "openrouter",
        ErrorClass.TRUNCATED_STREAM,
        usage=Usage(400, 10, source=UsageSource.ESTIMATED),
        t_first_output_ms=100,
    )
    won = answered(
        "local",
        attempt=3,
        usage=Usage(412, 57, reasoning_tokens=5, cache_read_tokens=100),
        cost_usd=0.0,
        cost_source=CostSource.UNBILLED,
        model_served="tiny",
    )

    await ledger.add((reply(broken, skipped("chutes", SkipReason.NO_KEY, attempt=2), won),))

    assert await all_usage(ledger, Grouping.PROVIDER) == (
        UsageRow("local", 1, 1, 0, 412, 57, 5, 100, 0, 0.0, 0, 180.0, 1300.0),
        UsageRow("openrouter", 0, 1, 1, 400, 10, 0, 0, 410, None, 1, 100.0, None),
    )


async def test_unreported_usage_is_unknown_and_not_zero(ledger: Ledger) -> None:
    silent = answered("groq", usage=None, cost_usd=None, cost_source=CostSource.UNKNOWN)

    await ledger.add((reply(silent),))

    (row,) = await all_usage(ledger, Grouping.PROVIDER)
    assert (row.input_tokens, row.output_tokens, row.cost_usd) == (None, None, None)
    assert row.unknown_costs == 1


async def test_a_refused_connection_is_no_unknown_cost(ledger: Ledger) -> None:
    await ledger.add((reply(failed("local", ErrorClass.CONNECT_REFUSED)),))

    (row,) = await all_usage(ledger, Grouping.PROVIDER)
    assert (row.failures, row.unknown_costs) == (1, 0)


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        (Grouping.PROVIDER, ["openrouter", "local"]),
        (Grouping.MODEL, ["lab/model-2026", "asked-for"]),
        (Grouping.USER, ["discord:ann", "key:editor"]),
        (Grouping.CHANNEL, ["discord:c1", ""]),
        (Grouping.PURPOSE, ["reply", "summary"]),
        (Grouping.DAY, ["2026-09-21", "2026-09-22"]),
    ],
)
async def test_usage_is_grouped_as_asked_by_cost_and_days_in_order(
    ledger: Ledger, by: Grouping, keys: list[str]
) -> None:
    dear = reply(answered(), origin=Origin("discord:c1", "discord:ann"))
    later = {"ts": NOON + DAY_S, "request_id": "r2"}
    cheap = answered("local", model_served=None, model_requested="asked-for", cost_usd=0, **later)

    await ledger.add(
        (
            reply(
                cheap, sink="gateway", origin=Origin("", "key:editor"), purpose="summary", **later
            ),
            dear,
        )
    )

    assert [row.key for row in await all_usage(ledger, by)] == keys


async def test_a_reply_stored_twice_counts_once_also_when_the_other_record_has_more_attempts(
    ledger: Ledger,
) -> None:
    first = failed("openrouter", ErrorClass.RATE_LIMITED)
    stopped = attempt("local", attempt=2, outcome=Outcome.CANCELLED, phase=Phase.STREAMING)
    partly = reply(first, ts=NOON + 3, outcome=ReplyOutcome.CANCELLED)

    await ledger.add((partly,))
    await ledger.add((reply(first, stopped, outcome=ReplyOutcome.CANCELLED),))

    (run,) = await ledger.reply("r1")
    assert run.attempts == (first, stopped)
    assert [row.attempts for row in await all_usage(ledger, Grouping.DAY)] == [2]


async def test_a_reply_keeps_the_name_of_the_order_that_was_chosen_for_it(ledger: Ledger) -> None:
    chosen = reply(answered(), order_name="fast (chosen here)")
    usual = reply(answered(request_id="r2"), request_id="r2")

    await ledger.add((chosen, usual))

    names = [run.order_name for name in ("r1", "r2") for run in await ledger.reply(name)]
    assert names == ["fast (chosen here)", ""]


def numbered(number: int, *providers: str) -> ReplyRecord:
    at, reply_id = NOON + number, f"r{number:03}"
    last = len(providers)
    tries = [
        answered(provider, request_id=reply_id, ts=at, attempt=count, visible_chars=number)
        if count == last
        else failed(provider, ErrorClass.DNS, request_id=reply_id, ts=at, attempt=count)
        for count, provider in enumerate(providers, 1)
    ]
    return reply(*tries, request_id=reply_id, ts=at, order_name="fast" if number % 7 else "")


@pytest.mark.parametrize("others", [(), ("chutes",)], ids=["one candidate", "several"])
async def test_many_replies_come_back_as_they_were_stored(
    ledger: Ledger, others: tuple[str, ...]
) -> None:
    stored = [numbered(number, *others[: number % 3], "local") for number in range(300)]

    await ledger.add(stored[:200])
    await ledger.add(stored)

    assert await ledger.recent(1000) == tuple(reversed(stored))


async def test_a_late_answer_is_a_second_run_of_the_same_reply(ledger: Ledger) -> None:
    offline = reply(failed("openrouter", ErrorClass.RATE_LIMITED))
    late = reply(answered(ts=NOON + 60), ts=NOON + 60)

    await ledger.add((late, offline))

    assert await ledger.reply("r1") == (offline, late)
    assert await ledger.recent(1) == (late,)
    assert await ledger.reply("unheard-of") == ()


async def test_what_users_spent_counts_delivered_replies_and_all_tokens(ledger: Ledger) -> None:
    ann, bob = Origin("discord:c", "discord:ann"), Origin("discord:c", "discord:bob")
    yesterday = {"ts": NOON - DAY_S, "request_id": "r0"}
    broken = failed("local", ErrorClass.TRUNCATED_STREAM, usage=Usage(400, 10))
    bobs = failed("local", ErrorClass.CONNECT_REFUSED, request_id="r2", ts=NOON + 1)

    await ledger.add(
        (
            reply(answered(**yesterday), origin=ann, **yesterday),
            reply(broken, answered(attempt=2), origin=ann),
            reply(bobs, origin=bob, request_id="r2", ts=NOON + 1),
        )
    )

    assert await ledger.spent(NOON - 10) == {
        "discord:ann": Spent(1, 879, 0.25),
        "discord:bob": Spent(0, 0, 0.0),
    }


async def test_plots_get_one_row_per_provider_and_span_that_has_any(ledger: Ledger) -> None:
    hour = NOON - NOON % 3600
    calls = ((hour + 1, "a"), (hour + 2, "a"), (hour + 2, "b"), (hour + 7300, "a"))
    for number, (ts, provider) in enumerate(calls):
        this = {"ts": ts, "request_id": f"r{number}"}
        await ledger.add((reply(answered(provider, **this), **this),))

    points = await ledger.series(hour, hour + 10_800, 3600)

    assert [(p.start - hour, p.row.key, p.row.attempts) for p in points] == [
        (0.0, "a", 2),
        (0.0, "b", 1),
        (7200.0, "a", 1),
    ]


async def test_replies_older_than_the_retention_are_deleted_with_their_attempts(
    ledger: Ledger,
) -> None:
    old = {"ts": NOON - 5 * DAY_S, "request_id": "r0"}
    await ledger.add((reply(answered(**old), **old), reply(answered())))

    assert await ledger.prune(NOON - DAY_S) == 1

    assert await ledger.reply("r0") == ()
    assert [row.attempts for row in await all_usage(ledger, Grouping.DAY)] == [1]


async def test_attempts_are_found_by_words_and_outcome_newest_first_in_pages(
    ledger: Ledger,
) -> None:
    origin = Origin("discord/1", "discord:Ada_%")
    early = reply(
        failed("openrouter", ErrorClass.RATE_LIMITED, ts=NOON),
        answered("local", attempt=2, ts=NOON + 1),
        request_id="r1",
        origin=origin,
    )
    late = reply(failed("chutes", ErrorClass.AUTH, ts=NOON + 5), request_id="r2", ts=NOON + 5)
    await ledger.add((early, late))

    async def found(*words: str, until: float = NOON + 60, **more: Outcome) -> list[str]:
        wanted = AttemptFilter(until, words, **more)
        return [one.provider for one in await ledger.attempts(wanted, 10, 0)]

    assert await found() == ["chutes", "local", "openrouter"]
    assert await found(until=NOON + 5) == ["local", "openrouter"]
    assert await found("ada_%", "LOCAL") == ["local"]
    assert await found("ada%x") == []
    assert await found("AUTH") == ["chutes"]
    assert await found(outcome=Outcome.ERROR) == ["chutes", "openrouter"]
    page = await ledger.attempts(AttemptFilter(NOON + 60), 1, 1)
    assert [one.provider for one in page] == ["local"]
