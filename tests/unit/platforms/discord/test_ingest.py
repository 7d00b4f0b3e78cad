import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import discord
import pytest

from autojump import AutojumpLoop
from busy_inbox import BusyInbox
from conversation_driver import LOUNGE, Models, dependencies, message
from understudy.conversation.inbox import Channel
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Inbound
from understudy.errors import StorageError
from understudy.platforms.discord.backfill import Gap, GapTracker
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


@dataclass(frozen=True)
class Arriving:
    """What the ingest asks of a message of Discord."""

    id: int
    author: discord.Object
    channel: discord.Object
    guild: None = None


def test_a_message_that_comes_when_a_gap_is_filled_follows_those_that_waited(
    runner: asyncio.Runner,
) -> None:
    store = BusyInbox()
    runner.run(_arrive_around_the_end_of_a_gap(store))

    lines = runner.run(store.transcript(Channel.of(LOUNGE), 10))
    assert [line.message_id for line in lines] == ["1", "2", "3", "4"]


async def _arrive_around_the_end_of_a_gap(store: BusyInbox) -> None:
    channel = discord.Object(7)
    gap = Gap(cast("discord.PartialMessageable", channel), after=0)
    tracker = GapTracker()
    tracker.found(0, [gap])

    async def read(arriving: discord.Message) -> Inbound:
        return message(str(arriving.id), place=LOUNGE)

    async def arrives(number: int) -> None:
        made = Arriving(number, discord.Object(100 + number), channel)
        await ingest.new(cast("discord.Message", made))

    router = MessageRouter(dependencies(Models(), store))
    ingest = Ingest(router, read, tracker, patience_s=lambda: 600)
    waiting = [asyncio.create_task(arrives(number)) for number in (1, 2, 3)]
    await asyncio.sleep(1)
    tracker.closed(gap)
    # At once, before those that waited are resumed.
    await arrives(4)
    await asyncio.gather(*waiting)
    await router.aclose()
