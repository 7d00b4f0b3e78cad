import asyncio

import pytest

from understudy.errors import RequestRefused
from understudy.gateway.admission import RequestLimiter


async def test_one_more_than_the_house_holds_is_told_when_to_come_back() -> None:
    door = RequestLimiter(2)
    await door.acquire()
    await door.acquire()

    with pytest.raises(RequestRefused) as caught:
        await door.acquire()
    assert (caught.value.status, caught.value.code) == (429, "busy")
    assert caught.value.retry_after_s == 2


async def test_who_leaves_makes_room() -> None:
    door = RequestLimiter(1)
    for _ in range(3):
        await door.acquire()
        door.release()


async def test_a_crowd_comes_in_a_few_at_a_time_and_in_its_order() -> None:
    door, came, turns = RequestLimiter(1000), list[int](), list[int]()

    async def guest(number: int) -> None:
        await door.acquire()
        came.append(number)

    guests = [asyncio.ensure_future(guest(number)) for number in range(100)]
    while len(came) < 100:
        before = len(came)
        await asyncio.sleep(0)
        turns.append(len(came) - before)
    await asyncio.gather(*guests)

    assert came == list(range(100))
    assert max(turns) <= 8


async def test_who_gives_up_at_the_door_takes_nobodys_place() -> None:
    door = RequestLimiter(9)
    crowd = [asyncio.ensure_future(door.acquire()) for _ in range(9)]
    await asyncio.sleep(0)
    assert [guest.done() for guest in crowd] == [True] * 8 + [False]
    crowd[8].cancel()
    await asyncio.wait(crowd)

    await door.acquire()
    with pytest.raises(RequestRefused):
        await door.acquire()
