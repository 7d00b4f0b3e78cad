"""How many requests are inside, and how fast more come in."""

import asyncio
from collections import deque
from collections.abc import Mapping

from starlette.types import Receive

from understudy.errors import RequestRefused

COME_BACK_S = 2.0
_AT_ONCE = 8


class RequestLimiter:
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
        """Acquire a slot; release it with `release`. Raises `RequestRefused` (429) when full."""
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


class BodyBudget:
    """The bodies of all requests that are being answered: each has at most `each` bytes, and
    they hold `together` at most."""

    def __init__(self, each: int, together: int) -> None:
        self._each = min(each, together)
        self._left = together

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """A whole body, to be given back when it is not needed any more; `None` when the client
        hung up before its end.

        Raises `RequestRefused` (413, 429), at once where the client tells the length.
        """
        length = headers.get(b"content-length", b"")
        self._check(int(length) if length.isdigit() else 0, self._left)
        parts: list[bytes] = []
        whole = False
        try:
            whole = await self._collect(receive, parts)
        finally:
            if not whole:
                self._left += sum(map(len, parts))
        if not whole:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def give_back(self, body: bytes) -> None:
        self._left += len(body)

    async def _collect(self, receive: Receive, parts: list[bytes]) -> bool:
        """Whether the body came to its end."""
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            part: bytes = message.get("body", b"")
            size += len(part)
            self._check(size, size + self._left - len(part))
            self._left -= len(part)
            parts.append(part)
            more = bool(message.get("more_body", False))
        return True

    def _check(self, size: int, room: int) -> None:
        if size > self._each:
            raise RequestRefused(
                413,
                "request_too_large",
                f"The request is larger than the {self._each} bytes allowed here.",
            )
        if size > room:
            raise RequestRefused(
                429,
                "busy",
                "Too much is being answered already to take in a request of this size.",
                retry_after_s=COME_BACK_S,
            )
