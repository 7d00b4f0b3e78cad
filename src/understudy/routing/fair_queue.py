"""Waiting for a server that works on only so many requests at once."""

import asyncio
from collections import OrderedDict, deque

from understudy.errors import ErrorClass, Unreachable


class FairQueue:
    """Lets so many in at once; the others wait their turn, one per fair key in rotation.

    The line holds so many and no more. In a full one a newcomer takes the last place of whoever
    has most people in it; where that would be the newcomer's own line, nobody's.
    """

    def __init__(self, size: int, length: int) -> None:
        self.size = size
        self.length = length
        self.inside = 0
        self._waiting: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def enter(self, queue_key: str, limit_s: float) -> None:
        """Wait for a turn; whoever had one gives it back with `leave`.

        Raises `Unreachable` (`queue_timeout`) when none came within `limit_s`, at once where
        there is not even a place in the line.
        """
        if self.inside < self.size and not self._waiting:
            self.inside += 1
        else:
            await self._wait(queue_key, limit_s)

    def leave(self) -> None:
        self.inside -= 1
        self._admit()

    async def _wait(self, queue_key: str, limit_s: float) -> None:
        if self.waiting >= self.length:
            self._make_room(queue_key)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(queue_key, deque()).append(turn)
        try:
            async with asyncio.timeout(limit_s):
                admitted = await turn
        except BaseException as reason:
            self._leave(queue_key, turn)
            if isinstance(reason, TimeoutError):
                raise Unreachable(ErrorClass.QUEUE_TIMEOUT) from None
            raise
        if not admitted:
            raise _no_place()

    def _make_room(self, queue_key: str) -> None:
        longest = max(self._waiting, key=lambda name: len(self._waiting[name]), default=queue_key)
        own = len(self._waiting.get(queue_key, ()))
        if longest == queue_key or len(self._waiting[longest]) <= own + 1:
            raise _no_place()
        # That line keeps at least one: it had more than the newcomer's will have.
        turn = self._waiting[longest].pop()
        if not turn.done():  # it may have been cancelled in this very moment
            turn.set_result(False)

    def _leave(self, queue_key: str, turn: asyncio.Future[bool]) -> None:
        if turn.done() and not turn.cancelled():
            if turn.result():
                # The turn came in the same moment: it goes to the next one.
                self.leave()
            return
        line = self._waiting.get(queue_key)
        # Who is cancelled in the moment in which a place comes free has been passed over already.
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._waiting[queue_key]

    def _admit(self) -> None:
        while self._waiting and self.inside < self.size:
            queue_key, line = self._waiting.popitem(last=False)
            turn = line.popleft()
            if line:
                self._waiting[queue_key] = line
            if not turn.done():
                turn.set_result(True)
                self.inside += 1


def _no_place() -> Unreachable:
    return Unreachable(ErrorClass.QUEUE_TIMEOUT, provider_code="queue_full")
