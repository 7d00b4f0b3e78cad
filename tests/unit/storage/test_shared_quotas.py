"""Quotas of several processes with one database."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import select

from postgres_server import KINDS, database_location
from sample_records import NOON, answered, reply
from understudy.config.settings import Limits, UserLimits
from understudy.gateway.auth import KeyQuota
from understudy.gateway.key_limits import KeyLimits
from understudy.llm.messages import Usage
from understudy.routing.quotas import QuotaGuard, Unit
from understudy.routing.records import Origin, ReplyOutcome
from understudy.storage.shared_quotas import SharedQuotas, open_quotas
from understudy.storage.shared_tables import quotas
from understudy.storage.stores import open_storage

ANN, BOB = Origin("web:c1", "web:ann"), Origin("web:c2", "web:bob")
MIDNIGHT = NOON - NOON % 86_400 + 86_400


class Process:
    def __init__(self, limits: Limits, shared: SharedQuotas) -> None:
        self.guard = QuotaGuard(lambda: limits, lambda: NOON)
        self.guard.shared = shared
        self.shared = shared
        self.keys = KeyLimits()
        self.keys.reserve = self.guard.charge

    async def ends(self, request_id: str, origin: Origin, **fields: object) -> None:
        outcome = fields.pop("outcome", ReplyOutcome.DELIVERED)
        won = answered(request_id=request_id, **fields)
        self.guard.reply_ended(reply(won, request_id=request_id, origin=origin, outcome=outcome))
        await self.shared.flush()


Start = AsyncGenerator[list[Process]]


@pytest.fixture(params=KINDS)
async def location(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Path | str]:
    with database_location(request.param, tmp_path) as found:
        yield found


async def start(stack: AsyncExitStack, location: Path | str, limits: Limits) -> Process:
    stores = await stack.enter_async_context(open_storage(location, persist=True))
    quotas = await stack.enter_async_context(open_quotas(stores.database, stores.coordinator))
    return Process(limits, quotas)


def per_user(**limits: float) -> Limits:
    return Limits(per_user=UserLimits.model_validate(limits))


async def test_processes_together_keep_to_the_requests_of_a_user(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        limits = per_user(requests_per_day=10)
        processes = [await start(stack, location, limits) for _ in range(3)]

        waits = await asyncio.gather(
            *(p.guard.reserve(f"r{n}-{i}", ANN) for n in range(8) for i, p in enumerate(processes))
        )

        assert sum(wait is None for wait in waits) == 10
        assert {wait for wait in waits if wait is not None} == {MIDNIGHT}
        assert await processes[0].guard.reserve("r", BOB) is None


async def test_a_reply_that_was_not_delivered_costs_no_request(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location, per_user(requests_per_day=1))
        other = await start(stack, location, per_user(requests_per_day=1))

        assert await one.guard.reserve("r1", ANN) is None
        assert await other.guard.reserve("r2", ANN) == MIDNIGHT
        await one.ends("r1", ANN, outcome=ReplyOutcome.OFFLINE)

        assert await other.guard.reserve("r3", ANN) is None


async def test_what_the_bot_asks_for_itself_counts_at_every_process(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        user = UserLimits(requests_per_day=1, tokens_per_day=1000)
        limits = Limits(per_user=user, daily_usd=0.5)
        one, other = [await start(stack, location, limits) for _ in range(2)]

        caption = {"origin": ANN, "purpose": "caption"}
        used = answered(usage=Usage(900, 200), cost_usd=0.5)
        one.guard.reply_ended(reply(used, **caption))
        await one.shared.flush()

        assert await other.guard.reserve("r1", ANN) == MIDNIGHT
        assert await other.guard.reserve("r2", BOB) is None
        assert not other.guard.may_spend(BOB)


async def test_tokens_are_corrected_when_the_reply_ends(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location, per_user(tokens_per_day=1000))
        other = await start(stack, location, per_user(tokens_per_day=1000))

        assert await one.guard.reserve("r1", ANN) is None
        await one.ends("r1", ANN, usage=Usage(60, 40))
        assert await other.guard.reserve("r2", ANN) is None
        await other.ends("r2", ANN, usage=Usage(800, 100))

        assert await one.guard.reserve("r3", ANN) == MIDNIGHT


async def test_money_spent_in_one_process_counts_in_the_other(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location, Limits(daily_usd=1.0))
        other = await start(stack, location, Limits(daily_usd=1.0))
        await one.guard.reserve("r1", ANN)
        assert one.guard.may_spend(ANN)
        await one.ends("r1", ANN, cost_usd=1.5)

        assert await other.guard.reserve("r2", BOB) is None

        assert not other.guard.may_spend(BOB)


async def test_money_is_not_spent_beyond_what_was_reserved(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        limits = Limits(daily_usd=0.1)
        processes = [await start(stack, location, limits) for _ in range(3)]
        reserved = processes[0].guard.expect(Unit.USD)

        async def spends(process: Process, request_id: str) -> bool:
            await process.guard.reserve(request_id, ANN)
            return process.guard.may_spend(ANN)

        may = [await spends(p, f"r{n}-{i}") for n in range(8) for i, p in enumerate(processes)]

        assert sum(may) * reserved <= 0.1 + reserved


async def test_processes_together_keep_to_the_limits_of_a_key(location: Path | str) -> None:
    key = KeyQuota(name="k", requests_per_minute=7)
    async with AsyncExitStack() as stack:
        processes = [await start(stack, location, Limits()) for _ in range(3)]

        waits = await asyncio.gather(
            *(
                p.keys.acquire(key, f"r{n}-{i}", ANN, NOON)
                for n in range(5)
                for i, p in enumerate(processes)
            )
        )

        assert sum(wait is None for wait in waits) == 7
        assert all(0 < wait <= 60 for wait in waits if wait is not None)
        assert await processes[0].keys.acquire(key, "later", ANN, NOON + 61) is None


async def test_what_was_used_before_the_rows_existed_is_counted(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location, per_user(requests_per_day=1))
        alone = QuotaGuard(lambda: per_user(requests_per_day=1), lambda: NOON)
        record = reply(answered(), origin=ANN)
        alone.reply_ended(record)

        await one.shared.seed(alone.used_today())
        await one.shared.seed(alone.used_today())

        assert await one.guard.reserve("r1", ANN) == MIDNIGHT


async def test_without_limits_nothing_is_written(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(open_storage(location, persist=True))
        one = await start(stack, location, Limits())

        assert await one.guard.reserve("r1", ANN) is None
        assert await one.keys.acquire(KeyQuota(name="k"), "r2", ANN, NOON) is None

        assert await stores.database.read(lambda on: on.execute(select(quotas)).all()) == []


async def test_a_reply_without_a_record_returns_its_reservation(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location, per_user(requests_per_day=1))
        assert await one.guard.reserve("r1", ANN) is None

        assert await one.guard.reserve("r1", ANN) is None
        assert await one.guard.reserve("r2", ANN) == MIDNIGHT


async def test_users_of_one_network_have_the_limits_of_one_at_all_processes_together(
    location: Path | str,
) -> None:
    async with AsyncExitStack() as stack:
        limits = per_user(requests_per_day=10, tokens_per_day=1_000_000)
        processes = [await start(stack, location, limits) for _ in range(2)]
        users = [Origin(f"web:c{number}", f"web:cookie-{number}") for number in range(20)]
        for process in processes:
            for user in users:
                process.guard.note_network(user.user, "198.51.100.7")

        waits = [
            await processes[number % 2].guard.reserve(f"r{number}", user)
            for number, user in enumerate(users)
        ]

        assert [wait is None for wait in waits] == [True] * 10 + [False] * 10
        assert await processes[0].guard.reserve("r", ANN) is None


async def test_the_table_does_not_hold_the_network(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location, per_user(requests_per_day=10))
        one.guard.note_network("web:ann", "198.51.100.7")

        await one.guard.reserve("r1", ANN)
        rows = await one.shared._database.read(
            lambda on: on.execute(select(quotas)).mappings().all()
        )

        assert len(rows) == 2
        assert not any("198.51.100.7" in str(row) for row in rows)


async def test_messages_of_a_minute_are_counted_at_all_processes_together(
    location: Path | str,
) -> None:
    async with AsyncExitStack() as stack:
        processes = [await start(stack, location, Limits()) for _ in range(2)]

        async def sends(number: int, user: str, network: str) -> float | None:
            return await processes[number % 2].guard.reserve_message(user, network, 4)

        of_ann = [await sends(number, "web:ann", "198.51.100.7") for number in range(5)]
        others = [await sends(number, f"web:{number}", "198.51.100.8") for number in range(5)]

        assert [wait is None for wait in of_ann] == [True] * 4 + [False]
        assert [wait is None for wait in others] == [True] * 4 + [False]
        assert of_ann[-1] == NOON - NOON % 60 + 60


async def test_a_refused_message_counts_for_neither_person_nor_network(
    location: Path | str,
) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location, Limits())
        for number in range(4):
            await one.guard.reserve_message(f"web:{number}", "198.51.100.7", 4)

        refused = [await one.guard.reserve_message("web:ann", "198.51.100.7", 4) for _ in "ab"]
        elsewhere = [await one.guard.reserve_message("web:ann", "203.0.113.9", 4) for _ in "abcd"]

        assert None not in refused
        assert elsewhere == [None] * 4
