"""Of two processes that both found a local server down, one polls it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from postgres_server import KINDS, database_location
from understudy.errors import ErrorClass, HoldScope
from understudy.llm.capabilities import CapabilityBook
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.testing import ScriptedClient, saying
from understudy.routing.candidates import Candidate
from understudy.routing.cooldown import Cooldown, CooldownBoard, State
from understudy.routing.monitoring import HealthMonitor
from understudy.storage.shared_cooldowns import poll_rights, share_cooldowns
from understudy.storage.stores import Stores, open_storage
from waiting import LIMIT_S

# A server that was found down is polled for the first time after some seconds.
pytestmark = pytest.mark.slow
UP = ProbeReport(ProbeState.READY)


class Server(ScriptedClient):
    """One process's client of the server; says when it was polled first."""

    def __init__(self) -> None:
        super().__init__([saying("hello")], ProbeReport(ProbeState.LOADING))
        self.polled = asyncio.Event()

    async def probe(self, model: str) -> ProbeReport:
        report = await super().probe(model)
        self.polled.set()
        return report


@dataclass(frozen=True, slots=True)
class Process:
    stores: Stores
    server: Server
    candidate: Candidate
    board: CooldownBoard
    monitor: HealthMonitor

    def watch(self) -> None:
        """Find the server down, as a failed request does."""
        key = self.candidate.scope_key(HoldScope.ENDPOINT)
        self.board.restore(Cooldown(key, time.monotonic() + 60.0, ErrorClass.CONNECT_REFUSED))
        self.monitor.watch(self.candidate)

    def state(self) -> State:
        return self.board.state(self.candidate.scope_key(HoldScope.ENDPOINT), time.monotonic())


@asynccontextmanager
async def process(location: Path | str) -> AsyncGenerator[Process]:
    board, server = CooldownBoard(Random(1)), Server()
    candidate = Candidate("home", "m", "home", "llama.cpp", server, local=True)
    monitor = HealthMonitor(board, CapabilityBook(time.monotonic), time.monotonic)
    async with (
        open_storage(location, persist=True, interval_s=0.2) as stores,
        share_cooldowns(
            stores.database,
            stores.coordinator,
            board,
            lambda: candidate.scope_keys,
            time.monotonic,
        ),
    ):
        monitor.rights = poll_rights(stores.database, stores.coordinator)
        yield Process(stores, server, candidate, board, monitor)
        await monitor.aclose()


@pytest.fixture(params=KINDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    with database_location(request.param, tmp_path) as found:
        yield found


async def first_polled(*processes: Process) -> Process:
    waits = {asyncio.create_task(each.server.polled.wait()): each for each in processes}
    done, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        other.cancel()
    return waits[done.pop()]


async def test_one_of_two_processes_polls_and_both_learn_of_the_recovery(
    location: Path | str,
) -> None:
    async with process(location) as one, process(location) as other:
        one.watch()
        other.watch()
        await first_polled(one, other)
        for each in (one, other):
            each.server.report = UP
        while {one.state(), other.state()} != {State.CLOSED}:
            await asyncio.wait_for(one.stores.coordinator.refresh(), LIMIT_S)
            await other.stores.coordinator.refresh()

        assert sorted((one.server.probes, other.server.probes)) == [0, 2]


async def test_another_process_may_poll_after_the_first_one_ended(location: Path | str) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(process(location))
        async with process(location) as one:
            one.watch()
            await first_polled(one)

        other.watch()

        assert await first_polled(other) is other
