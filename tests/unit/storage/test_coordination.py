"""Instances that share a database: liveness, wake-up, roles, and the database's clock."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text, update

from conversation_driver import ANN, LOUNGE, message
from postgres_server import KINDS, database_location, libpq_url, new_database, shared_server
from understudy.conversation.inbox import Channel, Claim, Decision
from understudy.storage.coordination import Coordinator, DatabaseClock
from understudy.storage.database import Database
from understudy.storage.inbox import SqlInbox
from understudy.storage.roles import Role
from understudy.storage.shared_tables import roles
from understudy.storage.stores import Stores, open_storage
from waiting import LIMIT_S

ANSWER = Decision(answer=True, reason="dm", directed=True)
HERE = Channel.of(LOUNGE)

_CLAIMING = """
import asyncio, sys
from conversation_driver import ANN, LOUNGE, message
from understudy.conversation.inbox import Channel, Claim, Decision
from understudy.storage.stores import open_storage

async def main(location):
    async with open_storage(location, persist=True) as opened:
        await opened.inbox.add(message("m1", "hi", ANN, LOUNGE), Decision(True, "dm", True), 100.0)
        (waiting,) = (await opened.inbox.work(Channel.of(LOUNGE))).waiting
        claim = Claim("b1", "r1", "n1", (waiting.seq,), True, opened.coordinator.clock.now() + 3600)
        await opened.inbox.claim(claim, 100.0)
        print("claimed", flush=True)
        await asyncio.Event().wait()

from pathlib import Path
asyncio.run(main(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])))
"""


@pytest.fixture(params=KINDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    with database_location(request.param, tmp_path) as found:
        yield found


@asynccontextmanager
async def process_with_a_claim(location: Path | str) -> AsyncGenerator[int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CLAIMING, str(location)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"claimed\n"
        yield process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        # The transport closes its pipe in the next turn of the loop.
        await asyncio.sleep(0)


async def claim(stores: Stores, until: float = 1e12) -> None:
    await stores.inbox.add(message("m1", "hi", ANN, LOUNGE), ANSWER, 100.0)
    (waiting,) = (await stores.inbox.work(HERE)).waiting
    assert await stores.inbox.claim(Claim("b1", "r1", "n1", (waiting.seq,), True, until), 100.0)


def locks_held(connection: Connection) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
    held: int = connection.execute(text(query)).scalar_one()
    return held


async def retaken(stores: Stores) -> bool:
    now = stores.coordinator.clock.now() - stores.coordinator.clock.offset
    return await stores.inbox.reclaim("b1", now + 30, now) is not None


@pytest.mark.slow
async def test_the_claims_of_a_killed_process_are_free_at_once(location: Path | str) -> None:
    async with open_storage(location, persist=True) as ours:
        async with process_with_a_claim(location) as pid:
            await ours.coordinator.refresh()
            assert not await retaken(ours)
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(LIMIT_S):
            while not await retaken(ours):
                await ours.coordinator.refresh()


@pytest.mark.slow
async def test_a_start_releases_the_claims_of_dead_processes(location: Path | str) -> None:
    async with process_with_a_claim(location) as pid:
        os.kill(pid, signal.SIGKILL)

    async with open_storage(location, persist=True) as ours, asyncio.timeout(LIMIT_S):
        while not await retaken(ours):
            await ours.coordinator.refresh()


async def test_a_process_that_stops_releases_its_claims(location: Path | str) -> None:
    async with open_storage(location, persist=True) as ours:
        async with open_storage(location, persist=True) as theirs:
            await claim(theirs)
            assert not await retaken(ours)

        assert await retaken(ours)


async def test_ids_differ_with_every_start(location: Path | str) -> None:
    async with open_storage(location, persist=True) as one:
        first = one.coordinator.id
        async with open_storage(location, persist=True) as other:
            assert other.coordinator.id != first
    async with open_storage(location, persist=True) as again:
        assert again.coordinator.id != first


async def test_a_role_has_one_owner_until_that_gives_it_up(location: Path | str) -> None:
    async with open_storage(location, persist=True) as a, open_storage(location, persist=True) as b:
        one = Role("discord", a.database, a.coordinator)
        two = Role("discord", b.database, b.coordinator)
        await one.refresh()
        await two.refresh()
        assert (one.held, two.held) == (True, False)
        await one.refresh()
        assert one.held

        await one.release()
        await two.refresh()
        assert (one.held, two.held) == (False, True)


async def test_a_role_changes_its_owner_when_the_lease_runs_out(location: Path | str) -> None:
    async with open_storage(location, persist=True) as a, open_storage(location, persist=True) as b:
        frozen = Role("discord", a.database, a.coordinator)
        standby = Role("discord", b.database, b.coordinator)
        await frozen.refresh()
        await b.database.write(lambda on: on.execute(update(roles).values(until=0.0)))

        await standby.refresh()
        await frozen.refresh()

        assert (frozen.held, standby.held) == (False, True)
        assert frozen.changed.is_set()


async def test_the_role_of_a_dead_owner_is_free_with_the_next_refresh(location: Path | str) -> None:
    async with open_storage(location, persist=True) as a:
        async with open_storage(location, persist=True) as b:
            await Role("discord", b.database, b.coordinator).refresh()
        ours = Role("discord", a.database, a.coordinator)

        await a.coordinator.refresh()
        await ours.refresh()

        assert ours.held


@pytest.mark.slow
async def test_a_notification_makes_another_instance_refresh() -> None:
    with new_database(shared_server()) as url:
        async with open_storage(url, persist=True) as a, open_storage(url, persist=True) as b:
            refreshed = asyncio.Event()

            async def refresh() -> None:
                refreshed.set()

            b.coordinator.refreshers.append(refresh)
            a.coordinator.notify()
            async with asyncio.timeout(LIMIT_S):
                await refreshed.wait()


@pytest.mark.slow
async def test_a_terminated_listener_connects_again_and_takes_its_lock_back() -> None:
    with new_database(shared_server()) as url:
        async with open_storage(url, persist=True) as a, open_storage(url, persist=True) as b:
            with psycopg.connect(libpq_url(url), autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = %s",
                    (f"understudy {a.coordinator.id}",),
                )
            async with asyncio.timeout(LIMIT_S):
                while await b.database.read(locks_held) < 2:
                    pass

            await claim(a)
            await b.coordinator.refresh()
            assert not await retaken(b)


def test_the_databases_clock_does_not_follow_a_wall_clock_that_is_set() -> None:
    wall, monotonic = 1000.0, 50.0
    clock = DatabaseClock(lambda: wall, lambda: monotonic)
    assert clock.now() == 1000.0

    clock.set(1200.0)
    wall, monotonic = 9000.0, 60.0

    assert clock.now() == 1210.0
    assert clock.offset == -7790.0


@pytest.mark.slow
async def test_leases_mean_the_same_on_machines_whose_clocks_differ() -> None:
    with new_database(shared_server()) as url:
        database = await Database.open(url)
        slow, fast = DatabaseClock(lambda: 1000.0), DatabaseClock(lambda: 5000.0)
        for clock in (slow, fast):
            clock.set(3000.0)
        one = SqlInbox(database, "one", clock=slow)
        two = SqlInbox(database, "two", clock=fast)

        await one.add(message("m1", "hi", ANN, LOUNGE), ANSWER, 1000.0)
        (waiting,) = (await one.work(HERE)).waiting
        await one.claim(Claim("b1", "r1", "n1", (waiting.seq,), True, 1030.0), 1000.0)

        assert await two.reclaim("b1", 5055.0, now=5025.0) is None
        assert (await two.work(HERE)).batches[0].lease_until == pytest.approx(5030.0, abs=1)
        assert await two.reclaim("b1", 5065.0, now=5035.0) is not None
        await database.aclose()


async def test_instances_are_listed_while_they_run(location: Path | str) -> None:
    count = text("SELECT count(*) FROM instances")
    async with open_storage(location, persist=True) as ours:
        async with open_storage(location, persist=True):
            assert await ours.database.read(lambda on: on.execute(count).scalar_one()) == 2
        assert await ours.database.read(lambda on: on.execute(count).scalar_one()) == 1
        assert isinstance(ours.coordinator, Coordinator)
