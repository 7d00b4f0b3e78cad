"""How many requests are inside, and how fast more come in."""

import asyncio
from collections import deque

from understudy.errors import RequestRefused

COME_BACK_S = 2.0
_AT_ONCE = 8


class Door:
    """Turns requests away past `most`, and lets the others in a few at a time.

    A thousand that begin in one turn of the event loop would hold it up for as long as all of
    them take to begin: connections being made would overstay their limits meanwhile, and good
    model servers be taken for dead.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Come in; whoever does leaves again. Raises `RequestRefused` (429) when it is full."""
        if self._inside >= self._most:
            raise RequestRefused(
                429,
                "busy",
                "Too many requests are being answered already.",
                retry_after_s=COME_BACK_S,
            )
        self._inside += 1
        try:
            await self._turn()
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        self._inside -= 1

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        if self._begun >= _AT_ONCE or self._waiting:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
            return
        if not self._begun:
            loop.call_soon(self._next_turn)
        self._begun += 1

    def _next_turn(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < _AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._next_turn)
