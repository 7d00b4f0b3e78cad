import asyncio
from collections.abc import Hashable

from understudy.platforms.discord.ingest import SerialQueue
from waiting import LIMIT_S


async def test_work_under_one_key_waits_and_other_work_does_not() -> None:
    in_turn, gate, done = SerialQueue(), asyncio.Event(), []

    async def work(name: str, key: Hashable, until: asyncio.Event | None = None) -> None:
        async with in_turn.of(key):
            if until is not None:
                await until.wait()
            done.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work("slow", "a", gate))
        tasks.create_task(work("after it", "a"))
        await tasks.create_task(work("elsewhere", "b"))
        gate.set()

    assert done == ["elsewhere", "slow", "after it"]


async def test_cancelled_or_failed_work_does_not_block_the_queue() -> None:
    in_turn = SerialQueue()

    async def work(fails: bool) -> None:
        async with in_turn.of("a"):
            await asyncio.sleep(0)
            if fails:
                raise ValueError

    first, second, third = (asyncio.create_task(work(fails)) for fails in (True, False, False))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({first, second})

    await asyncio.wait_for(third, LIMIT_S)
    assert isinstance(first.exception(), ValueError)
