"""The line before a server that works on only so many requests at once."""

import asyncio

import pytest

from understudy.errors import ErrorClass, ProviderError
from understudy.llm.messages import TextDelta
from understudy.llm.testing import SILENCE, Pause, saying
from understudy.routing.fair_queue import FairQueue
from understudy.routing.records import OfflineReason
from unit.routing.router_driver import candidate, reply, router

GOOD = saying("Hello", " there")


def stand(queue: FairQueue, *names: str) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(queue.acquire(name, 60)) for name in names]


async def refused(task: asyncio.Task[None]) -> bool:
    """Whether it was turned away, rather than left standing."""
    await asyncio.sleep(0)
    if not task.done():
        return False
    with pytest.raises(ProviderError) as caught:
        task.result()
    return (caught.value.error_class, caught.value.provider_code) == (
        ErrorClass.QUEUE_TIMEOUT,
        "queue_full",
    )


async def closed(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_full_line_turns_people_away_at_once() -> None:
    queue = FairQueue(1, 2)
    await queue.acquire("a", 60)

    tasks = stand(queue, "a", "a", "a")
    await asyncio.sleep(0)

    assert [await refused(task) for task in tasks] == [False, False, True]
    assert queue.waiting == 2
    await closed(*tasks)


async def test_in_a_full_line_a_newcomer_takes_the_last_place_of_the_crowd() -> None:
    queue = FairQueue(1, 3)
    await queue.acquire("crowd", 60)
    crowd = stand(queue, "crowd", "crowd", "crowd")
    await asyncio.sleep(0)

    (quiet,) = stand(queue, "quiet")
    await asyncio.sleep(0)

    assert [await refused(task) for task in crowd] == [False, False, True]
    queue.release()
    await crowd[0]
    queue.release()
    await quiet
    assert queue.waiting == 1
    await closed(crowd[1])


async def test_nobody_with_as_few_in_line_makes_room() -> None:
    queue = FairQueue(1, 2)
    await queue.acquire("a", 60)
    tasks = stand(queue, "a", "b", "c")
    await asyncio.sleep(0)

    assert [await refused(task) for task in tasks] == [False, False, True]
    await closed(*tasks)


async def test_who_is_turned_away_leaves_no_trace_when_cancelled_in_that_moment() -> None:
    queue = FairQueue(1, 2)
    await queue.acquire("crowd", 60)
    crowd = stand(queue, "crowd", "crowd")
    await asyncio.sleep(0)
    (quiet,) = stand(queue, "quiet")
    # Comes between being turned away and hearing of it.
    asyncio.get_running_loop().call_soon(crowd[1].cancel)
    await asyncio.wait({crowd[1]})

    assert crowd[1].cancelled()
    assert (queue.inside, queue.waiting) == (1, 2)
    await closed(crowd[0], quiet)


async def test_a_crowd_before_the_only_server_is_told_so_and_when_to_come_back() -> None:
    model = router([candidate("home", (SILENCE,), local=True, queue_length=1)])
    waiting = [asyncio.create_task(reply(model)) for _ in range(2)]
    await asyncio.sleep(1)

    turned_away = await reply(model)

    assert turned_away.story == ["home queue_timeout"]
    assert turned_away.end.record.offline_reason is OfflineReason.BUSY
    assert turned_away.end.record.retry_at is not None
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_a_full_line_costs_the_next_server_no_time() -> None:
    home = candidate("home", (SILENCE,), local=True, queue_length=1)
    model = router([home, candidate("b", GOOD)])
    waiting = [asyncio.create_task(reply(model)) for _ in range(2)]
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()

    assert (await reply(model)).story == ["home queue_timeout", "b ok"]
    assert loop.time() == began
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_time_that_ran_out_in_line_is_a_crowd_too() -> None:
    long_winded = (TextDelta("and "), Pause(15)) * 5
    model = router([candidate("home", long_winded, local=True)])
    first = asyncio.create_task(reply(model))
    await asyncio.sleep(1)

    assert (await reply(model)).end.record.offline_reason is OfflineReason.BUSY
    first.cancel()
    await asyncio.wait([first])


async def test_a_newcomer_may_take_the_place_of_someone_who_leaves_in_the_same_moment() -> None:
    queue = FairQueue(1, 2)
    await queue.acquire("inside", 60)
    stays, leaves = stand(queue, "loud", "loud")
    await asyncio.sleep(0)
    leaves.cancel()

    with pytest.raises(ProviderError) as caught:
        await queue.acquire("quiet", 0)

    assert caught.value.error_class is ErrorClass.QUEUE_TIMEOUT
    await closed(stays, leaves)
    assert queue.waiting == 0
