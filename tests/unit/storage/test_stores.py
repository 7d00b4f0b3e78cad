"""Processes that share a database, one after the other and at the same time."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from conversation_driver import ANN, WEB, message
from understudy.conversation.inbox import Channel, Claim, Decision
from understudy.storage.inbox import SqlInbox
from understudy.storage.stores import open_storage

ANSWER = Decision(answer=True, reason="dm", directed=True)
HERE = Channel.of(WEB)


async def claim_one(path: Path) -> str:
    async with open_storage(path, persist=True) as opened:
        await opened.inbox.add(message("m1"), ANSWER, 100.0)
        (waiting,) = (await opened.inbox.work(HERE)).waiting
        batch = await opened.inbox.claim(
            Claim("b1", "r1", "n1", (waiting.seq,), True, 130.0), 100.0
        )
    assert batch is not None
    return batch.id


async def test_claims_of_an_earlier_process_can_be_retaken_at_once(tmp_path: Path) -> None:
    batch_id = await claim_one(tmp_path / "bot.db")

    async with open_storage(tmp_path / "bot.db", persist=True) as opened:
        assert await opened.inbox.reclaim(batch_id, 140.0, now=101.0) is not None


async def test_a_claim_of_a_running_process_cannot_be_retaken(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    async with open_storage(path, persist=True) as first:
        await first.inbox.add(message("m1"), ANSWER, 100.0)
        (waiting,) = (await first.inbox.work(HERE)).waiting
        await first.inbox.claim(Claim("b1", "r1", "n1", (waiting.seq,), True, 130.0), 100.0)
        async with open_storage(path, persist=True) as second:
            assert await second.inbox.reclaim("b1", 140.0, now=101.0) is None
        assert await first.inbox.renew("b1", 150.0)


async def test_with_persist_off_no_text_reaches_the_disk(tmp_path: Path) -> None:
    async with open_storage(tmp_path / "bot.db", persist=False) as opened:
        await opened.inbox.add(message("m1", "canary-in-the-mine"), ANSWER, 100.0)
        assert (await opened.inbox.history(HERE, 99, 5))[0].text == "canary-in-the-mine"
        written = b"".join(f.read_bytes() for f in tmp_path.iterdir())

    assert b"m1" in written
    assert b"canary" not in written
    assert b"Ann" not in written


async def _delete_and_prune(inbox: SqlInbox) -> None:
    await inbox.delete("web", "m1")
    await inbox.prune(0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "forget",
    [
        lambda inbox: inbox.forget_author("web", ANN.id),
        lambda inbox: inbox.delete_channel(HERE),
        _delete_and_prune,
    ],
    ids=["person", "conversation", "message"],
)
async def test_erased_text_is_in_no_file_while_the_bot_runs(
    tmp_path: Path, forget: Callable[[SqlInbox], Awaitable[object]]
) -> None:
    async with open_storage(tmp_path / "bot.db", persist=True) as opened:
        await opened.inbox.add(message("m1", "canary-in-the-mine"), ANSWER, 100.0)
        await forget(opened.inbox)
        written = b"".join(f.read_bytes() for f in tmp_path.iterdir())

    assert b"m1" in written
    assert b"canary" not in written
