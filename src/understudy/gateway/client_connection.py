"""The client's end of one answer: what it is sent, and whether it is still there."""

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from starlette.types import Receive, Send

from understudy.gateway.responses import KEEP_ALIVE

Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
SSE: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx holds a stream back until its buffer is full, unless it is told not to.
    (b"x-accel-buffering", b"no"),
)


async def answer(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Receive, send: Send) -> None:
    """Start and stop with the server; what the gateway uses is owned by the composition root."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


KEEP_ALIVE_S = 15.0
_WATCH_AFTER_S = 0.05
"""Quick answers are not worth a task that looks out for a client hanging up."""


class ClientConnection:
    """An async context manager around one answer.

    When the client hangs up, the body is cancelled and the block ends without an error. A stream
    that says nothing for `keep_alive_s` is sent a comment: its answer then begins with status 200
    even if the first word is still to come.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        headers: Sequence[Header] = (),
        keep_alive_s: float | None = None,
    ) -> None:
        self.opened = False
        self._gone = False
        self._receive = receive
        self._send = send
        self._headers = headers
        self._keep_alive_s = keep_alive_s
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(_WATCH_AFTER_S, self._watch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> bool:
        assert self._timer is not None
        assert self._task is not None
        self._timer.cancel()
        # A task that is over knows this line by its traceback: kept here, it would leave a circle
        # of everything that an answer had to do with to the garbage collector.
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])
        if not self._gone:
            return False
        # The cancellation was this line's own; one that came from outside stays pending.
        return self._task.uncancel() == 0 and kind is asyncio.CancelledError

    async def open(self, extra: Iterable[Header] = ()) -> None:
        """Send the status and headers of a stream, once."""
        if not self.opened:
            self.opened = True
            headers = [*self._headers, *extra]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        self._sent_at = self._loop.time()
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    def _watch(self) -> None:
        self._watcher = self._loop.create_task(self._watching())

    async def _watching(self) -> None:
        hung_up = False
        while not hung_up:
            try:
                async with asyncio.timeout_at(self._silent_until()):
                    hung_up = (await self._receive())["type"] == "http.disconnect"
            except TimeoutError:
                await self._keep_alive()
        self._gone = True
        assert self._task is not None
        self._task.cancel()

    def _silent_until(self) -> float | None:
        return None if self._keep_alive_s is None else self._sent_at + self._keep_alive_s

    async def _keep_alive(self) -> None:
        until = self._silent_until()
        if until is not None and self._loop.time() >= until:
            await self.open()
            await self.write(KEEP_ALIVE)
