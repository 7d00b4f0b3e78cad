"""Text of replies that another process writes, also where that process dies."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conversation_driver import ANN, LOUNGE, message
from postgres_server import KINDS, database_location
from understudy.conversation.inbox import BatchResult, BatchState, Channel, Claim, Decision
from understudy.storage.live_frames import Frame, LiveFrames
from understudy.storage.stores import Stores, open_storage

FRAME = Frame("r1", LOUNGE.channel_id, "m1", "So far")
ENDED = Frame("r1", LOUNGE.channel_id, "m1", "So far", ended=True)
SILENT_S = -60.0
"""The batch of a reply is asked for at each refresh."""


@dataclass
class Process:
    stores: Stores
    shown: list[Frame] = field(default_factory=list)
    frames: LiveFrames = field(init=False)

    def __post_init__(self) -> None:
        self.frames = LiveFrames(
            self.stores.database,
            self.stores.coordinator,
            lambda: [LOUNGE.channel_id],
            self.shown.append,
            SILENT_S,
        )

    async def claim(self) -> None:
        """Begin the reply `r1`."""
        answer, inbox = Decision(answer=True, reason="dm", directed=True), self.stores.inbox
        await inbox.add(message("m1", "question", ANN, LOUNGE), answer, 100.0)
        (waiting,) = (await inbox.work(Channel.of(LOUNGE))).waiting
        assert await inbox.claim(Claim("b1", "r1", "n", (waiting.seq,), True, 130.0), 100.0)


@pytest.fixture(params=KINDS)
async def two(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncGenerator[tuple[Process, Process]]:
    with database_location(request.param, tmp_path) as location:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(open_storage(location, persist=True))
            other = await stack.enter_async_context(open_storage(location, persist=True))
            yield Process(one), Process(other)


async def test_a_reply_that_is_written_on_stays_shown_without_frames(
    two: tuple[Process, Process],
) -> None:
    one, other = two
    await one.claim()
    await one.frames.write([FRAME])

    for _ in range(3):
        await other.frames.refresh()

    assert other.shown == [FRAME]


async def test_a_reply_whose_last_frame_is_lost_ends_with_its_batch(
    two: tuple[Process, Process],
) -> None:
    one, other = two
    await one.claim()
    await one.frames.write([FRAME])
    await other.frames.refresh()

    assert await one.stores.inbox.settle("b1", BatchResult(BatchState.ANSWERED), 101.0)
    await other.frames.refresh()

    assert other.shown == [FRAME, ENDED]
    await other.frames.refresh()
    assert other.shown == [FRAME, ENDED]
