import asyncio
from collections.abc import Callable

import pytest

from understudy.errors import RequestRefused
from understudy.gateway.admission import RequestLimiter


async def test_one_more_than_the_house_holds_is_told_when_to_come_back() -> None:
    door = RequestLimiter(2)
    door.acquire()
    door.acquire()

    with pytest.raises(RequestRefused) as caught:
        door.acquire()
    assert (caught.value.status, caught.value.code) == (429, "busy")
    assert caught.value.retry_after_s == 2


async def test_who_leaves_makes_room() -> None:
    door = RequestLimiter(1)
    for _ in range(3):
        door.acquire()
        door.release()


async def test_a_crowd_begins_a_few_at_a_time_and_in_its_order() -> None:
    limiter, began, turns = RequestLimiter(1000), list[int](), list[int]()

    def beginning(number: int) -> Callable[[], None]:
        return lambda: began.append(number)

    for number in range(100):
        limiter.start(beginning(number))
    turns.append(len(began))
    while len(began) < 100:
        before = len(began)
        await asyncio.sleep(0)
        turns.append(len(began) - before)

    assert began == list(range(100))
    assert max(turns) <= 8
