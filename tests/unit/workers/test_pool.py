"""Work in child processes: results, deadlines, memory limits, crashes, and closing."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable

import psutil
import pytest

from understudy.errors import WorkerKilled, WorkFailed
from understudy.workers.pool import WorkerLimits, WorkerPool
from waiting import LIMIT_S

HERE = "worker_probe"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children import the functions from this folder of tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool("test", WorkerLimits(deadline_s=30, memory_mb=150), package=HERE)
    yield pool
    await pool.aclose()


def _children() -> list[psutil.Process]:
    """Workers alone: other tests of this process may have children of their own."""
    return [child for child in psutil.Process().children() if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        running = process.status() != psutil.STATUS_ZOMBIE
        return running and "understudy.workers.process" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the pool has no event for it
        await asyncio.sleep(0.001)


async def test_a_result_comes_back_as_the_type_that_was_asked_for(pool: WorkerPool) -> None:
    assert await pool.run(f"{HERE}:echo", [1, 2], b"x", kind=tuple[list[int], bytes]) == (
        [1, 2],
        b"x",
    )


async def test_an_exception_comes_back_with_its_type_and_text(pool: WorkerPool) -> None:
    with pytest.raises(WorkFailed, match="out of paper") as failed:
        await pool.run(f"{HERE}:fail", "out of paper", kind=int)

    assert failed.value.kind == "ValueError"


@pytest.mark.slow
async def test_work_past_its_deadline_is_killed_and_the_next_is_done() -> None:
    pool = WorkerPool("test", WorkerLimits(deadline_s=2, memory_mb=150), package=HERE)
    with pytest.raises(WorkerKilled) as killed:
        await pool.run(f"{HERE}:spin", 60.0, kind=int)

    assert killed.value.reason == "deadline"
    assert await pool.run(f"{HERE}:process_id", kind=int) != os.getpid()
    assert pool.killed[f"{HERE}:spin", "deadline"] == 1
    await pool.aclose()


@pytest.mark.slow
async def test_work_that_takes_too_much_memory_is_given_up(pool: WorkerPool) -> None:
    with pytest.raises((WorkerKilled, WorkFailed)) as given_up:
        await pool.run(f"{HERE}:allocate", 4000, kind=int)

    reason = getattr(given_up.value, "reason", None) or getattr(given_up.value, "kind", None)
    assert reason in ("memory", "MemoryError")


@pytest.mark.slow
async def test_memory_within_the_system_limit_but_over_ours_is_noticed() -> None:
    pool = WorkerPool("test", WorkerLimits(deadline_s=20, memory_mb=100), package=HERE)
    with pytest.raises(WorkerKilled) as killed:
        await pool.run(f"{HERE}:allocate", 300, kind=int)

    assert killed.value.reason == "memory"
    await pool.aclose()


async def test_a_child_that_ends_itself_is_replaced(pool: WorkerPool) -> None:
    with pytest.raises(WorkerKilled) as killed:
        await pool.run(f"{HERE}:end", kind=int)

    assert killed.value.reason == "crash"
    assert await pool.run(f"{HERE}:process_id", kind=int) > 0


async def test_one_child_does_work_after_work(pool: WorkerPool) -> None:
    first = await pool.run(f"{HERE}:process_id", kind=int)

    assert await pool.run(f"{HERE}:process_id", kind=int) == first


async def test_no_child_runs_before_the_first_work_or_after_closing() -> None:
    pool = WorkerPool("test", package=HERE)
    assert _children() == []

    await pool.run(f"{HERE}:process_id", kind=int)
    await pool.aclose()

    assert _children() == []


async def test_closing_does_not_wait_for_work(pool: WorkerPool) -> None:
    await pool.run(f"{HERE}:process_id", kind=int)
    slow = asyncio.create_task(pool.run(f"{HERE}:spin", 60.0, kind=int))
    await _until(lambda: pool.is_busy)

    async with asyncio.timeout(LIMIT_S):
        await pool.aclose()

    with pytest.raises(WorkerKilled):
        await slow


async def test_cancelled_work_is_not_left_running(pool: WorkerPool) -> None:
    await pool.run(f"{HERE}:process_id", kind=int)
    slow = asyncio.create_task(pool.run(f"{HERE}:spin", 60.0, kind=int))
    await _until(lambda: pool.is_busy)

    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow

    assert await pool.run(f"{HERE}:process_id", kind=int) > 0
    assert len(_children()) <= 1 + pool.ending


async def test_children_inherit_no_keys(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-secret")

    assert "OPENROUTER_API_KEY" not in await pool.run(f"{HERE}:variables", kind=list[str])


async def test_only_functions_of_this_program_can_be_called(pool: WorkerPool) -> None:
    with pytest.raises(WorkFailed):
        await pool.run("os:getpid", kind=int)


async def test_idle_children_end() -> None:
    pool = WorkerPool("test", WorkerLimits(idle_s=0.0), package=HERE)
    first = await pool.run(f"{HERE}:process_id", kind=int)
    await _until(lambda: pool.children == 0)

    assert await pool.run(f"{HERE}:process_id", kind=int) != first
    await pool.aclose()
