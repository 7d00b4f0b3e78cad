"""Cooldowns of two processes with one database."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import text, update

from postgres_server import KINDS, database_location
from understudy.errors import ErrorClass, HoldScope
from understudy.routing.candidates import ScopeKey
from understudy.routing.cooldown import Cooldown, CooldownBoard, State
from understudy.routing.failure_policy import RULES
from understudy.storage.shared_cooldowns import SharedCooldowns, share_cooldowns
from understudy.storage.shared_tables import cooldowns
from understudy.storage.stores import Stores, open_storage

KEY = ScopeKey(HoldScope.ENDPOINT, "local", "http://127.0.0.1:5001")
REFUSED = ErrorClass.CONNECT_REFUSED


@dataclass
class Process:
    stores: Stores
    board: CooldownBoard = field(default_factory=lambda: CooldownBoard(Random(1)))
    now: float = 1000.0
    shared: SharedCooldowns = field(init=False)

    def fail(self, cause: ErrorClass = REFUSED, *, retry_after_s: float | None = None) -> None:
        for _ in range(3):
            self.board.fail(KEY, RULES[cause], cause, self.now, retry_after_s=retry_after_s)

    def state(self) -> State:
        return self.board.state(KEY, self.now)

    def may_probe(self) -> bool:
        return self.board.availability([KEY], self.now).probes == (KEY,)

    async def gets_probe(self) -> bool:
        """Ask for the probe; whether the next request may be it."""
        self.may_probe()
        await self.shared.publish()
        return self.may_probe()


async def start(
    stack: AsyncExitStack, location: Path | str, keys: Sequence[ScopeKey] = (KEY,)
) -> Process:
    stores = await stack.enter_async_context(open_storage(location, persist=True))
    process = Process(stores)
    sharing = share_cooldowns(
        stores.database, stores.coordinator, process.board, lambda: keys, lambda: process.now
    )
    process.shared = await stack.enter_async_context(sharing)
    return process


@pytest.fixture(params=KINDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    with database_location(request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def two(location: Path | str) -> AsyncGenerator[tuple[Process, Process]]:
    async with AsyncExitStack() as stack:
        yield await start(stack, location), await start(stack, location)


async def pass_time(seconds: float, *processes: Process) -> None:
    """Let the cooldowns of these processes age, in memory and in the table."""
    for process in processes:
        process.now += seconds
    older = update(cooldowns).values(
        until=cooldowns.c.until - seconds, leased_until=cooldowns.c.leased_until - seconds
    )
    await processes[0].stores.database.write(lambda on: on.execute(older))


async def open_at_both(one: Process, other: Process) -> None:
    """One process opens a cooldown of 40 s, and the other learns of it."""
    one.fail(retry_after_s=40.0)
    await one.shared.publish()
    await other.shared.refresh()


async def test_a_cooldown_of_one_process_holds_in_the_other(two: tuple[Process, Process]) -> None:
    one, other = two
    one.fail(retry_after_s=40.0)

    await one.shared.publish()
    await other.shared.refresh()

    hold = other.board.availability([KEY], other.now).hold
    assert hold is not None
    assert hold.until == pytest.approx(1040.0, abs=2)
    assert hold.cause is REFUSED


async def test_a_process_that_starts_later_knows_it_at_once(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location)
        one.fail()
        await one.shared.publish()

        later = await start(stack, location)

        assert later.state() is State.OPEN


async def test_a_rejected_key_from_before_the_start_is_tried_once(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location)
        one.fail(ErrorClass.AUTH)
        await one.shared.publish()

        later = await start(stack, location)

        assert later.state() is State.CLOSED


async def test_one_of_two_processes_probes(two: tuple[Process, Process]) -> None:
    one, other = two
    await open_at_both(one, other)
    await pass_time(41.0, one, other)

    assert not one.may_probe()
    assert not other.may_probe()
    await one.shared.publish()
    await other.shared.publish()

    assert sorted((one.may_probe(), other.may_probe())) == [False, True]


async def test_a_process_that_starts_when_the_probe_is_due_does_not_call_besides(
    location: Path | str,
) -> None:
    async with AsyncExitStack() as stack:
        one = await start(stack, location)
        one.fail(retry_after_s=40.0)
        await one.shared.publish()
        await pass_time(41.0, one)

        later = await start(stack, location)

        assert later.state() is State.HALF_OPEN
        assert await one.gets_probe()
        assert not await later.gets_probe()


async def test_a_process_that_was_cut_off_during_the_whole_cooldown_does_not_call_besides(
    two: tuple[Process, Process],
) -> None:
    one, other = two
    one.fail(retry_after_s=40.0)
    await one.shared.publish()
    await pass_time(41.0, one, other)

    await other.shared.refresh()

    assert other.state() is State.HALF_OPEN
    assert await one.gets_probe()
    assert not await other.gets_probe()


async def test_a_killed_prober_keeps_its_probe_until_the_lease_ends(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as life:
            one = await start(life, location)
            one.fail(retry_after_s=40.0)
            await one.shared.publish()
            await pass_time(41.0, one)
            assert await one.gets_probe()
        later = await start(stack, location)

        at_once = await later.gets_probe()
        await pass_time(21.0, later)

        assert not at_once
        assert await later.gets_probe()


async def test_a_probe_that_may_take_long_is_leased_for_that_long(
    two: tuple[Process, Process],
) -> None:
    one, other = two
    await open_at_both(one, other)
    await pass_time(41.0, one, other)
    assert await one.gets_probe()

    one.board.lease([KEY], one.now + 50.0)
    await one.shared.publish()
    await pass_time(45.0, one, other)

    assert not await other.gets_probe()


async def test_a_process_that_hangs_while_it_leases_the_probe_does_not_use_it_too_late(
    two: tuple[Process, Process],
) -> None:
    one, other = two
    await open_at_both(one, other)
    await pass_time(41.0, one, other)
    await one.shared.publish()
    one.may_probe()

    leasing = asyncio.create_task(one.shared.publish())
    await asyncio.sleep(0)
    one.now += 21.0
    await leasing

    assert not one.may_probe()


async def test_a_lease_outlives_the_connections_of_its_owner(two: tuple[Process, Process]) -> None:
    one, other = two
    await open_at_both(one, other)
    await pass_time(41.0, one, other)
    assert await one.gets_probe()

    if one.stores.database.is_shared:
        ends = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await one.stores.database.read(lambda on: on.execute(ends).all())

    assert not await other.gets_probe()
    assert one.may_probe()


async def test_one_of_two_processes_probes_what_no_row_knows(two: tuple[Process, Process]) -> None:
    for process in two:
        process.board.restore(Cooldown(KEY, process.now - 1.0, ErrorClass.AUTH))

    assert sorted([await process.gets_probe() for process in two]) == [False, True]


async def test_an_older_closing_does_not_end_a_cooldown_that_is_not_published_yet(
    two: tuple[Process, Process],
) -> None:
    one, other = two
    one.fail()
    await one.shared.publish()
    await other.shared.refresh()
    other.board.succeed([KEY], other.now)
    await other.shared.publish()

    one.fail(retry_after_s=60.0)
    await one.shared.refresh()

    assert one.state() is State.OPEN


async def test_a_closing_read_while_a_cooldown_opens_does_not_end_it(
    two: tuple[Process, Process],
) -> None:
    one, other = two
    one.fail()
    await one.shared.publish()
    await other.shared.refresh()
    other.board.succeed([KEY], other.now)
    await other.shared.publish()

    reading = asyncio.create_task(one.shared.refresh())
    await asyncio.sleep(0)
    one.fail(retry_after_s=60.0)
    await reading

    assert one.state() is State.OPEN


async def test_a_server_that_a_reload_adds_is_left_out_where_others_have_left_it_out_before(
    location: Path | str,
) -> None:
    async with AsyncExitStack() as stack:
        one, keys = await start(stack, location), list[ScopeKey]()
        other = await start(stack, location, keys)
        one.fail(retry_after_s=600.0)
        await one.shared.publish()
        earlier = update(cooldowns).values(changed_at=cooldowns.c.changed_at - 100.0)
        await one.stores.database.write(lambda on: on.execute(earlier))
        await other.shared.refresh()

        keys.append(KEY)
        await other.shared.refresh()

        assert other.state() is State.OPEN


async def test_a_page_view_does_not_ask_for_the_probe(two: tuple[Process, Process]) -> None:
    one, other = two
    await open_at_both(one, other)
    await pass_time(41.0, one, other)

    one.board.availability([KEY], one.now, asking=False)
    await one.shared.publish()
    assert not other.may_probe()
    await other.shared.publish()

    assert other.may_probe()


async def test_a_successful_probe_closes_it_everywhere(two: tuple[Process, Process]) -> None:
    one, other = two
    await open_at_both(one, other)
    await pass_time(41.0, one, other)
    other.may_probe()
    await other.shared.publish()

    other.board.succeed([KEY], other.now)
    await other.shared.publish()
    await one.shared.refresh()

    assert one.state() is State.CLOSED


async def test_a_failed_probe_opens_it_everywhere_again(two: tuple[Process, Process]) -> None:
    one, other = two
    await open_at_both(one, other)
    await pass_time(41.0, one, other)
    other.may_probe()
    await other.shared.publish()

    other.board.fail(KEY, RULES[REFUSED], REFUSED, other.now, retry_after_s=60.0)
    await other.shared.publish()
    await one.shared.refresh()

    assert one.state() is State.OPEN
    assert not one.may_probe()


async def test_a_probe_without_a_finding_is_free_for_the_other(
    two: tuple[Process, Process],
) -> None:
    one, other = two
    await open_at_both(one, other)
    await pass_time(41.0, one, other)
    one.may_probe()
    await one.shared.publish()

    one.board.release([KEY])
    await one.shared.publish()
    other.may_probe()
    await other.shared.publish()

    assert other.may_probe()


async def test_a_cooldown_that_expires_is_not_closed_by_a_probe_of_another(
    two: tuple[Process, Process],
) -> None:
    one, other = two
    await open_at_both(one, other)
    await pass_time(41.0, one, other)
    other.may_probe()
    await other.shared.publish()

    await one.shared.refresh()

    assert one.state() is State.HALF_OPEN


async def test_a_reset_by_the_operator_holds_everywhere(two: tuple[Process, Process]) -> None:
    one, other = two
    one.fail()
    await one.shared.publish()
    await other.shared.refresh()

    other.board.reset()
    await other.shared.publish()
    await one.shared.refresh()

    assert one.state() is State.CLOSED
