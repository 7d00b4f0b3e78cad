import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import discord
import pytest

from autojump import AutojumpLoop
from busy_inbox import BusyInbox
from conversation_driver import LOUNGE, Models, dependencies, message
from understudy.conversation.inbox import Channel
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Inbound
from understudy.errors import StorageError
from understudy.platforms.discord.backfill import GapTracker
from understudy.platforms.discord.ingest import Ingest


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=AutojumpLoop) as made:
        yield made


@asynccontextmanager
async def _taking_in(store: BusyInbox) -> AsyncIterator[Ingest]:
    async def read(message: discord.Message) -> Inbound | None:
        raise AssertionError("nothing comes from Discord here")

    router = MessageRouter(dependencies(Models(), store))
    yield Ingest(router, read, GapTracker(), patience_s=lambda: 600)
    await router.aclose()


async def _take(store: BusyInbox, *ids: str) -> list[bool]:
    async with _taking_in(store) as taking_in:
        calls = (taking_in.store(message(one, place=LOUNGE)) for one in ids)
        return await asyncio.gather(*calls)


def test_what_follows_a_message_that_the_database_refused_at_first_is_stored_after_it(
    runner: asyncio.Runner,
) -> None:
    store = BusyInbox(add=1)
    runner.run(_take(store, "first", "second"))

    lines = runner.run(store.transcript(Channel.of(LOUNGE), 10))
    assert [line.message_id for line in lines] == ["first", "second"]


def test_a_message_is_kept_until_the_database_has_room_again(runner: asyncio.Runner) -> None:
    assert runner.run(_take(BusyInbox(add=50), "kept")) == [True]


def test_a_message_is_given_up_when_the_database_stays_full(runner: asyncio.Runner) -> None:
    with pytest.raises(StorageError, match="locked"):
        runner.run(_take(BusyInbox(add=1000), "kept"))
