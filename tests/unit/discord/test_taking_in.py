import asyncio
from collections.abc import Iterator

import pytest

from autojump import AutojumpLoop
from talk import LOUNGE, message
from understudy.conversation.delivery import Inbound
from understudy.errors import StorageError
from understudy.platforms.discord.taking_in import TakingIn


class Inbox:
    """Refuses so many times, then stores."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.stored: list[str] = []

    async def receive(self, inbound: Inbound) -> str:
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise StorageError("the disk is full")
        self.stored.append(inbound.message_id)
        return "stored"


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=AutojumpLoop) as made:
        yield made


async def _take(taking_in: TakingIn, *ids: str) -> list[bool]:
    return await asyncio.gather(*(taking_in.take(message(one, place=LOUNGE)) for one in ids))


def test_what_follows_a_message_that_the_database_refused_at_first_is_stored_after_it(
    runner: asyncio.Runner,
) -> None:
    inbox = Inbox(refusals=1)
    runner.run(_take(TakingIn(inbox.receive, lambda: 60), "first", "second"))

    assert inbox.stored == ["first", "second"]


def test_a_message_is_kept_until_the_database_has_room_again(runner: asyncio.Runner) -> None:
    inbox = Inbox(refusals=50)

    assert runner.run(_take(TakingIn(inbox.receive, lambda: 600), "kept")) == [True]


def test_a_message_is_given_up_when_the_database_stays_full(runner: asyncio.Runner) -> None:
    inbox = Inbox(refusals=1000)

    with pytest.raises(StorageError, match="full"):
        runner.run(_take(TakingIn(inbox.receive, lambda: 600), "kept"))
