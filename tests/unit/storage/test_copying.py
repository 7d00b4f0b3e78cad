"""Copying a database to another one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conversation_driver import ANN, LOUNGE, message
from postgres_server import new_database, shared_server
from sample_records import answered, reply
from understudy.conversation.inbox import (
    BatchResult,
    BatchState,
    Channel,
    Claim,
    Decision,
    Sent,
)
from understudy.conversation.messages import Author
from understudy.storage.copying import copy_database
from understudy.storage.database import Database
from understudy.storage.inbox import SqlInbox
from understudy.storage.ledger import Ledger
from understudy.storage.memory import SqlMemory

pytestmark = pytest.mark.slow
ANSWER = Decision(answer=True, reason="dm", directed=True)
HERE = Channel.of(LOUNGE)
ME = Author("understudy", "Understudy", is_bot=True)


@pytest.fixture
def url() -> Iterator[str]:
    with new_database(shared_server()) as created:
        yield created


async def _converse(inbox: SqlInbox, number: int) -> None:
    await inbox.add(message(f"m{number}", f"question {number}", ANN, LOUNGE), ANSWER, 100.0)
    (waiting,) = (await inbox.work(HERE)).waiting
    claim = Claim(f"b{number}", f"r{number}", "n", (waiting.seq,), True, 130.0)
    assert await inbox.claim(claim, 100.0)
    sent = Sent(f"answer {number}", (f"s{number}",), ME)
    record = reply(answered(request_id=f"r{number}"), request_id=f"r{number}")
    assert await inbox.settle(f"b{number}", BatchResult(BatchState.ANSWERED, sent, record), 101.0)


async def test_a_conversation_continues_in_the_copy_with_the_same_ids(
    url: str, tmp_path: Path
) -> None:
    old, new = await Database.open(tmp_path / "bot.db"), await Database.open(url)
    before, after = SqlInbox(old, "one"), SqlInbox(new, "two")
    for number in range(3):
        await _converse(before, number)

    counts = await copy_database(old, new, lambda _table, _rows: None)

    assert all(count.matches for count in counts)
    assert {c.table: c.target for c in counts}["messages"] == 6
    assert await after.transcript(HERE, 50) == await before.transcript(HERE, 50)
    found = await SqlMemory(new, "two").search(HERE, "question", 10)
    assert [hit.line.text for hit in found] == ["question 2", "question 1", "question 0"]
    assert await Ledger(new).reply("r1") == await Ledger(old).reply("r1")
    assert not await after.add(message("m1", "again", ANN, LOUNGE), ANSWER, 200.0)
    await _converse(after, 3)
    assert [line.text for line in await after.transcript(HERE, 2)] == ["question 3", "answer 3"]
    await old.aclose()
    await new.aclose()


async def test_a_repeated_copy_takes_over_what_changed_since(url: str, tmp_path: Path) -> None:
    old, new = await Database.open(tmp_path / "bot.db"), await Database.open(url)
    before, after = SqlInbox(old, "one"), SqlInbox(new, "two")
    await _converse(before, 0)
    await copy_database(old, new, lambda _table, _rows: None)
    await before.edit(message("m0", "edited", ANN, LOUNGE))
    await _converse(before, 1)

    counts = await copy_database(old, new, lambda _table, _rows: None)

    assert all(count.matches for count in counts)
    assert [line.text for line in await after.transcript(HERE, 50)] == [
        "edited",
        "answer 0",
        "question 1",
        "answer 1",
    ]
    await old.aclose()
    await new.aclose()
