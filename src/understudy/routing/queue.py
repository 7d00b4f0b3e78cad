"""Waiting for a server that works on only so many requests at once."""

import asyncio
from collections import OrderedDict, deque

from understudy.errors import ErrorClass, Unreachable


class FairQueue:
    """Lets so many in at once; the others wait their turn, one per fair key in rotation."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.inside = 0
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def enter(self, fair_key: str, limit_s: float) -> None:
        """Wait for a turn; whoever had one gives it back with `leave`.

        Raises `Unreachable` (`queue_timeout`) when none came within `limit_s`.
        """
        if self.inside < self.size and not self._waiting:
            self.inside += 1
        else:
            await self._wait(fair_key, limit_s)

    def leave(self) -> None:
        self.inside -= 1
        self._admit()

    async def _wait(self, fair_key: str, limit_s: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(fair_key, deque()).append(turn)
        try:
            async with asyncio.timeout(limit_s):
                await turn
        except BaseException as reason:
            self._leave(fair_key, turn)
            if isinstance(reason, TimeoutError):
                raise Unreachable(ErrorClass.QUEUE_TIMEOUT) from None
            raise

    def _leave(self, fair_key: str, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            # The turn came in the same moment: it goes to the next one.
            self.leave()
            return
        line = self._waiting.get(fair_key)
        # Who is cancelled in the moment in which a place comes free has been passed over already.
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._waiting[fair_key]

    def _admit(self) -> None:
        while self._waiting and self.inside < self.size:
            fair_key, line = self._waiting.popitem(last=False)
            turn = line.popleft()
            if line:
                self._waiting[fair_key] = line
            if not turn.done():
                turn.set_result(None)
                self.inside += 1
