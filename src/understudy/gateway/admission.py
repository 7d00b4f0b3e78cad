"""Limits how many requests run, how fast they start, and how many bytes their bodies hold."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

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
        self._waiting: deque[Callable[[], None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def acquire(self) -> None:
        """Acquire a slot; release it with `release`. Raises `RequestRefused` (429) when full."""
        if self._inside >= self._most:
            raise RequestRefused(
                429,
                "busy",
                "Too many requests are being answered already.",
                retry_after_s=COME_BACK_S,
            )
        self._inside += 1

    def release(self) -> None:
        self._inside -= 1

    def start(self, begin: Callable[[], None]) -> None:
        """Call `begin`: at once, or in a later pass where enough have begun in this one."""
        if self._begun >= _AT_ONCE or self._waiting:
            self._waiting.append(begin)
            return
        if not self._begun:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._next_turn, self._loop)
        self._begun += 1
        begin()

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun = 0
        while self._waiting and self._begun < _AT_ONCE:
            self._begun += 1
            self._waiting.popleft()()
        if self._begun:
            loop.call_soon(self._next_turn, loop)


class BodyBudget:
    """Limits the bodies of all running requests: to `each` bytes each, and `together` in sum."""

    def __init__(self, each: int, together: int) -> None:
        self._each = min(each, together)
        self._left = together

    def check_declared(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises `RequestRefused` (413, 429) for a body whose length is declared as too large."""
        length = headers.get(b"content-length", b"")
        size = int(length) if length.isdigit() else 0
        if size > self._each or size > self._left:
            raise self._refusal(size)

    def reserve(self, size: int, more: int) -> None:
        """Reserve `more` bytes for a body that has `size` with them; `release` them all.

        Raises `RequestRefused` (413, 429), and then nothing is reserved.
        """
        if size > self._each or more > self._left:
            raise self._refusal(size)
        self._left -= more

    def release(self, size: int) -> None:
        self._left += size

    def _refusal(self, size: int) -> RequestRefused:
        if size > self._each:
            return RequestRefused(
                413,
                "request_too_large",
                f"The request is larger than the {self._each} bytes allowed here.",
            )
        return RequestRefused(
            429,
            "busy",
            "Too much is being answered already to take in a request of this size.",
            retry_after_s=COME_BACK_S,
        )
