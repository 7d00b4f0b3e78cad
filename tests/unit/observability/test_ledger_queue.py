"""Every ended reply reaches the ledger, whatever the database does in between."""

import asyncio
from collections.abc import Sequence

from structlog.testing import capture_logs

from sample_records import answered, reply
from understudy.errors import StorageError
from understudy.observability.ledger_queue import LedgerQueue
from understudy.routing.records import ReplyRecord
from waiting import LIMIT_S


class Shelf:
    """A ledger in a list that refuses a given number of times."""

    def __init__(self, refusals: int = 0) -> None:
        self.stored: list[ReplyRecord] = []
        self.calls = 0
        self._refusals = refusals

    async def add(self, ended: Sequence[ReplyRecord]) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.calls <= self._refusals:
            raise StorageError("the disk is full")
        self.stored.extend(ended)

    async def prune(self, before: float) -> int:
        return 0


def made(number: int) -> ReplyRecord:
    return reply(answered(), request_id=f"r{number}")


async def test_replies_are_stored_in_order_and_in_few_transactions() -> None:
    shelf = Shelf()
    async with LedgerQueue(shelf) as queue:
        for number in range(100):
            queue.reply_ended(made(number))
        await queue.flush()

        assert [r.request_id for r in shelf.stored] == [f"r{n}" for n in range(100)]
        assert shelf.calls <= 2


async def test_replies_that_end_within_a_moment_share_a_transaction() -> None:
    shelf = Shelf()
    async with LedgerQueue(shelf, gather_s=LIMIT_S) as queue:
        for number in range(5):
            queue.reply_ended(made(number))
            await asyncio.sleep(0)
        await queue.flush()

    assert len(shelf.stored) == 5
    assert shelf.calls == 1


async def test_what_is_still_queued_is_stored_at_shutdown() -> None:
    shelf = Shelf()
    async with LedgerQueue(shelf) as queue:
        queue.reply_ended(made(1))

    assert [r.request_id for r in shelf.stored] == ["r1"]


async def test_a_database_that_refuses_for_a_while_loses_nothing() -> None:
    shelf = Shelf(refusals=2)
    with capture_logs() as events:
        async with LedgerQueue(shelf, retry_s=0.01) as queue:
            queue.reply_ended(made(1))
            queue.reply_ended(made(2))
            await queue.flush()

    assert [r.request_id for r in shelf.stored] == ["r1", "r2"]
    assert {e["event"] for e in events} == {"ledger.behind"}


async def test_a_database_that_never_comes_back_does_not_hold_up_the_end_and_it_is_said() -> None:
    shelf = Shelf(refusals=1_000)
    with capture_logs() as events:
        async with LedgerQueue(shelf, retry_s=3600) as queue:
            queue.reply_ended(made(1))

    assert not shelf.stored
    assert {"event": "ledger.lost", "log_level": "error", "replies": 1} in events


async def test_past_its_capacity_the_oldest_reply_is_given_up_and_it_is_said() -> None:
    shelf = Shelf()
    with capture_logs() as events:
        async with LedgerQueue(shelf, capacity=2) as queue:
            for number in range(3):
                queue.reply_ended(made(number))

    assert [r.request_id for r in shelf.stored] == ["r1", "r2"]
    assert [e["event"] for e in events] == ["ledger.lost"]


async def test_replies_that_end_while_others_are_being_stored_are_stored_too() -> None:
    shelf = Shelf()
    async with LedgerQueue(shelf) as queue:
        queue.reply_ended(made(1))
        await asyncio.sleep(0)
        queue.reply_ended(made(2))
        await queue.flush()

        assert [r.request_id for r in shelf.stored] == ["r1", "r2"]
