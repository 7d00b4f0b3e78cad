"""Limits how many requests run, how fast they start, and how many bytes their bodies hold."""

import asyncio
from collections import deque
from collections.abc import Mapping

from starlette.types import Receive

from understudy.errors import RequestRefused

COME_BACK_S = 2.0
_AT_ONCE = 8


class RequestLimiter:
    """Refuses requests past `most`, and starts the others a few per pass of the event loop.

    A thousand that start in one pass would block the loop: connections that are being made would
    exceed their time limits, and good model servers would count as down.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
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
            self.release()
            raise

    def release(self) -> None:
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
    """Limits the bodies of all running requests: to `each` bytes each, and `together` in sum."""

    def __init__(self, each: int, together: int) -> None:
        self._each = min(each, together)
        self._left = together

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """Read a whole body; release it with `release`. `None` when the client hung up early.

        Raises `RequestRefused` (413, 429), at once where the length is declared.
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

    def release(self, body: bytes) -> None:
        self._left += len(body)

    async def _collect(self, receive: Receive, parts: list[bytes]) -> bool:
        """Return whether the body is complete."""
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
