"""Clients that never read their replies: what they hold, and what all others notice of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random

from conformance.gateway_subject import WAYS
from conformance.raw_primary import STREAM, TEXT, WHOLE, chunk, event
from conformance.subject import Outcome, Sink, Site, Wish
from conformance.table import PATIENT, Way
from process_memory import resident_mb
from raw_http import Peer, raw_server

CLIENTS = 150
STREAMED = tuple(way for way in WAYS if way.sink is Sink.APPEND_ONLY)
_DICE = Random(1)
_FRAMES = chunk(b"".join(event({"content": f"{_DICE.random()} "}) for _ in range(512)))
"""Not repetitive, or the router would end the reply."""
_SAMPLES = 20
_SAMPLE_S = 0.05


@dataclass
class Flood:
    """A primary that sends words without end to its first `clients`, then whole answers."""

    clients: int
    calls: int = 0
    sent: int = 0
    """Bytes that the system took from it."""
    streams: int = 0
    """Those that are open."""

    async def serve(self, peer: Peer) -> None:
        await peer.request()
        self.calls += 1
        if self.calls > self.clients:
            await peer.send(WHOLE)
            return
        self.streams += 1
        try:
            peer.writer.write(STREAM)
            while True:
                peer.writer.write(_FRAMES)
                await peer.writer.drain()
                self.sent += len(_FRAMES)
                await asyncio.sleep(0)
        finally:
            self.streams -= 1

    async def until_stuck(self) -> None:
        """Wait until every stream is open and none has got on for a second."""
        still, sent = 0, -1
        while still < _SAMPLES or self.streams < self.clients:
            await asyncio.sleep(_SAMPLE_S)
            still = still + 1 if sent == self.sent else 0
            sent = self.sent

    async def until_left(self) -> None:
        while self.streams:  # noqa: ASYNC110
            await asyncio.sleep(_SAMPLE_S / 10)


@dataclass(frozen=True, slots=True)
class Unread:
    """What was seen of so many replies that were never read."""

    sent_mb: float
    """What the primary got rid of, per stream: the buffers of the system and ours."""
    held_mb: float
    """What the process has grown by, per stream, the primary's own buffers included."""
    other: Outcome
    """The reply of one more client, which reads."""
    left_s: float
    """From the clients' leaving to the end of the last stream."""


@asynccontextmanager
async def _flooded(clients: int) -> AsyncIterator[tuple[Flood, Site]]:
    flood = Flood(clients)
    async with raw_server(flood.serve) as server:
        yield flood, Site(f"{server.url}/v1", None, PATIENT.first_token_s, PATIENT.idle_s)


async def never_read(way: Way, clients: int = CLIENTS) -> Unread:
    """Ask for endless replies, never read them, and let one more client ask for a reply."""
    wish = Wish(Sink.APPEND_ONLY)
    async with _flooded(clients) as (flood, site), way.make(site) as subject:
        before = resident_mb()
        async with AsyncExitStack() as replies:
            for _ in range(clients):
                await replies.enter_async_context(subject.unread(wish))
            await flood.until_stuck()
            held, sent = resident_mb() - before, flood.sent
            other = await subject.ask(wish)
            left = time.monotonic()
        await flood.until_left()
        return Unread(sent / clients / 1e6, held / clients, other, time.monotonic() - left)


def is_whole(outcome: Outcome) -> bool:
    return outcome.text == TEXT and not outcome.failed
