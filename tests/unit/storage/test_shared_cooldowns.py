"""Cooldowns of two processes with one database."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import update

from postgres_server import KINDS, database_location
from understudy.errors import ErrorClass, HoldScope
from understudy.routing.candidates import ScopeKey
from understudy.routing.cooldown import CooldownBoard, State
from understudy.routing.failure_policy import RULES
from understudy.storage.shared_cooldowns import SharedCooldowns, share_cooldowns
from understudy.storage.stores import Stores, open_storage
from understudy.storage.tables import cooldowns

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


async def start(stack: AsyncExitStack, location: Path | str) -> Process:
    stores = await stack.enter_async_context(open_storage(location, persist=True))
    process = Process(stores)
    sharing = share_cooldowns(
        stores.database, stores.coordinator, process.board, lambda: [KEY], lambda: process.now
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
    one.fail(retry_after_s=40.0)
    await one.shared.publish()
    await other.shared.refresh()
    await pass_time(41.0, one, other)

    assert not one.may_probe()
    assert not other.may_probe()
    await one.shared.publish()
    await other.shared.publish()

    assert sorted((one.may_probe(), other.may_probe())) == [False, True]


async def test_a_page_view_does_not_ask_for_the_probe(two: tuple[Process, Process]) -> None:
    one, other = two
    one.fail(retry_after_s=40.0)
    await one.shared.publish()
    await other.shared.refresh()
    await pass_time(41.0, one, other)

    one.board.availability([KEY], one.now, asking=False)
    await one.shared.publish()
    assert not other.may_probe()
    await other.shared.publish()

    assert other.may_probe()


async def test_a_successful_probe_closes_it_everywhere(two: tuple[Process, Process]) -> None:
    one, other = two
    one.fail(retry_after_s=40.0)
    await one.shared.publish()
    await other.shared.refresh()
    await pass_time(41.0, one, other)
    other.may_probe()
    await other.shared.publish()

    other.board.succeed([KEY], other.now)
    await other.shared.publish()
    await one.shared.refresh()

    assert one.state() is State.CLOSED


async def test_a_failed_probe_opens_it_everywhere_again(two: tuple[Process, Process]) -> None:
    one, other = two
    one.fail(retry_after_s=40.0)
    await one.shared.publish()
    await other.shared.refresh()
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
    one.fail(retry_after_s=40.0)
    await one.shared.publish()
    await other.shared.refresh()
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
    one.fail(retry_after_s=40.0)
    await one.shared.publish()
    await other.shared.refresh()
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
