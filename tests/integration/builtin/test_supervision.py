"""What the supervisor does about a process that grows, hangs or keeps crashing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import pytest

from tiny_model import make_tiny_model
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.builtin.options import BuiltinOptions, plan_load
from understudy.llm.builtin.server import Address, BuiltinServer, ServerState
from understudy.model_files.folder import ModelFolder
from waiting import LIMIT_S


@dataclass(slots=True)
class Watched:
    """One server, and the readings that the test chooses."""

    server: BuiltinServer = field(init=False)
    now: float = 0.0
    memory: int = 0
    healthy: bool = True
    checks: int = 0
    pids: list[int] = field(default_factory=list)

    async def is_healthy(self, _: Address) -> bool:
        self.checks += 1
        return self.healthy

    def memory_of(self, pid: int) -> int:
        if pid not in self.pids:
            self.pids.append(pid)
        return self.memory if pid == self.pids[0] else 0

    def clock(self) -> float:
        return self.now


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    make_tiny_model(tmp_path / "tiny.gguf")
    made = Watched()
    options = BuiltinOptions("tiny.gguf", context_length=512, parallel=1, threads=1)
    made.server = BuiltinServer(
        options,
        partial(plan_load, options, ModelFolder(tmp_path), tmp_path),
        is_healthy=made.is_healthy,
        memory_of=made.memory_of,
        clock=made.clock,
    )
    made.server.start()
    await until(lambda: made.server.state is ServerState.READY)
    yield made
    await made.server.aclose()


async def until(true: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    async with asyncio.timeout(limit_s):
        while not true():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


async def used(server: BuiltinServer, *, may_wait: bool = True) -> Address:
    async with server.serving(may_wait=may_wait) as address:
        return address


async def test_a_process_that_takes_too_much_memory_is_replaced(watched: Watched) -> None:
    first = await used(watched.server)
    watched.memory = 10**12
    await until(lambda: len(watched.pids) > 1)
    second = await used(watched.server)

    assert first != second
    assert not psutil.pid_exists(watched.pids[0])


async def test_a_process_that_no_longer_answers_is_replaced(watched: Watched) -> None:
    watched.healthy = False
    for checks in (1, 2, 3):
        watched.now += 11
        await until(lambda checks=checks: watched.checks == checks)  # type: ignore[misc]
    watched.healthy = True
    await until(lambda: len(watched.pids) > 1)

    assert (await used(watched.server)).url


async def test_one_that_keeps_crashing_is_started_ever_more_slowly(watched: Watched) -> None:
    for crash in range(3):
        await until(lambda crash=crash: len(watched.pids) == crash + 1)  # type: ignore[misc]
        psutil.Process(watched.pids[-1]).kill()
        await until(lambda: watched.server.state is not ServerState.READY)
    with pytest.raises(ProviderError) as caught:
        await used(watched.server, may_wait=False)

    assert caught.value.error_class is ErrorClass.OVERLOADED
    assert "killed" in caught.value.detail
    assert (await used(watched.server)).url


async def test_closing_while_it_loads_leaves_no_process(watched: Watched) -> None:
    psutil.Process(watched.pids[0]).kill()
    await until(lambda: watched.server.state is not ServerState.READY)
    await watched.server.aclose()

    assert watched.server.state is ServerState.STOPPED
    assert not any(
        "understudy.llm.builtin.child" in c.cmdline() for c in psutil.Process().children()
    )
