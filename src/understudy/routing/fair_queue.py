"""A queue for servers that work on a limited number of requests at once."""

import asyncio
from collections import OrderedDict, deque

from understudy.errors import ErrorClass, Unreachable


class FairQueue:
    """Admits `size` requests at once; the others wait, one per key in rotation.

    At most `length` wait. When the queue is full, a new request replaces the newest one of the key
    with the most waiting; where that is its own key, it is refused.
    """

    def __init__(self, size: int, length: int) -> None:
        self.size = size
        self.length = length
        self.inside = 0
        self._waiting: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def try_acquire(self) -> bool:
        """Acquire a slot where one is free and no request waits for it."""
        if self.inside < self.size and not self._waiting:
            self.inside += 1
            return True
        return False

    async def acquire(self, queue_key: str, limit_s: float) -> None:
        """Acquire a slot, after a wait where none is free; release it with `release`.

        Raises `Unreachable` (`queue_timeout`) when none is free within `limit_s`, and at once
        when the queue is full.
        """
        if not self.try_acquire():
            await self._wait(queue_key, limit_s)

    def release(self) -> None:
        self.inside -= 1
        if self._waiting:
            self._admit()

    async def _wait(self, queue_key: str, limit_s: float) -> None:
        if self.waiting >= self.length:
            self._make_room(queue_key)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(queue_key, deque()).append(turn)
        timer = turn.get_loop().call_later(limit_s, self._expire, queue_key, turn)
        try:
            admitted = await turn
        except BaseException:
            self._withdraw(queue_key, turn)
            raise
        finally:
            timer.cancel()
        if not admitted:
            raise _queue_full()

    def _expire(self, queue_key: str, turn: asyncio.Future[bool]) -> None:
        if not turn.done():
            self._withdraw(queue_key, turn)
            turn.set_exception(Unreachable(ErrorClass.QUEUE_TIMEOUT))

    def _make_room(self, queue_key: str) -> None:
        longest = max(self._waiting, key=lambda name: len(self._waiting[name]), default=queue_key)
        own = len(self._waiting.get(queue_key, ()))
        if longest == queue_key or len(self._waiting[longest]) <= own + 1:
            raise _queue_full()
        # That key keeps at least one: it has more waiting than the new request's key will have.
        turn = self._waiting[longest].pop()
        if not turn.done():  # it may have been cancelled just now
            turn.set_result(False)

    def _withdraw(self, queue_key: str, turn: asyncio.Future[bool]) -> None:
        if turn.done() and not turn.cancelled():
            if turn.exception() is None and turn.result():
                # The slot came at the same moment: pass it on.
                self.release()
            return
        line = self._waiting.get(queue_key)
        # A request cancelled while a slot becomes free has been removed already.
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


def _queue_full() -> Unreachable:
    return Unreachable(ErrorClass.QUEUE_TIMEOUT, provider_code="queue_full")
