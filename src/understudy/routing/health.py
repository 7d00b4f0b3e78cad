"""Looks after engines at home that are down, so that nobody has to pay for finding out."""

import asyncio
from collections.abc import Callable

from understudy.errors import HoldScope
from understudy.llm.capabilities import Capabilities, CapabilityBook
from understudy.llm.client import ProbeReport, ProbeState
from understudy.routing.candidate import Candidate, ScopeKey
from understudy.routing.cooldown import CooldownBoard, State

_FIRST_LOOK_S = 2.0
_SLOWEST_S = 10.0
_SLOWING = 1.5
_PROBE_LIMIT_S = 5.0


class HealthWatch:
    """Polls the health page of each local server whose endpoint is left out.

    It closes only what speaks of the whole server: an engine whose health page answers may still
    sit on a prompt for ever, so a model's own cooldown ends by time alone. Where there is no
    health page, the next request finds out.
    """

    def __init__(
        self, board: CooldownBoard, book: CapabilityBook, clock: Callable[[], float]
    ) -> None:
        self._board = board
        self._book = book
        self._clock = clock
        self._watches: dict[ScopeKey, asyncio.Task[None]] = {}

    def look_after(self, candidate: Candidate) -> None:
        """Begin to poll, unless that server is being polled already."""
        key = candidate.scope_key(HoldScope.ENDPOINT)
        if key in self._watches or self._board.state(key, self._clock()) is State.CLOSED:
            return
        watch = asyncio.get_running_loop().create_task(self._watch(candidate, key))
        self._watches[key] = watch
        watch.add_done_callback(lambda _: self._watches.pop(key, None))

    async def discover(self, candidate: Candidate) -> ProbeReport:
        """Look at a server once, and note what it tells about its model."""
        report = await candidate.client.probe(candidate.model)
        self._book.discover(
            candidate.key,
            Capabilities(
                vision=report.vision, n_ctx=report.context_length, slots=report.max_concurrency
            ),
        )
        return report

    async def aclose(self) -> None:
        watches = list(self._watches.values())
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, candidate: Candidate, key: ScopeKey) -> None:
        wait_s = _FIRST_LOOK_S
        while self._board.state(key, self._clock()) is not State.CLOSED:
            # Held until the next look is over: nobody's request is to be the probe.
            self._board.extend(key, self._clock() + wait_s + _PROBE_LIMIT_S)
            await asyncio.sleep(wait_s)
            report = await self.discover(candidate)
            if report.state is ProbeState.READY and report.health_endpoint:
                self._board.succeed((key,), self._clock())
            elif report.state not in (ProbeState.UNREACHABLE, ProbeState.LOADING):
                return
            elif report.state is ProbeState.UNREACHABLE:
                wait_s = min(wait_s * _SLOWING, _SLOWEST_S)
