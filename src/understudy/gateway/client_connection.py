"""One client's connection during an answer: sends, keeps alive, notices when it hangs up."""

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from starlette.types import Receive, Send

from understudy.gateway.responses import KEEP_ALIVE
from understudy.http_server.connection import ServerExtension

Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
SSE: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx buffers a stream unless this header says not to.
    (b"x-accel-buffering", b"no"),
)


async def answer(
    send: Send,
    status: int,
    headers: list[Header],
    body: bytes,
    server: ServerExtension | None = None,
) -> None:
    if server is not None and server.respond(status, headers, body):
        return
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Receive, send: Send) -> None:
    """Acknowledge start and stop; the composition root owns what the gateway uses."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


KEEP_ALIVE_S = 15.0
_WATCH_AFTER_S = 0.05
"""Quick responses are not worth a task that waits for a disconnect."""


class ClientConnection:
    """An async context manager around one answer.

    When the client hangs up, or `end_early` is called, the body is cancelled and the block ends
    without an error. A stream that is silent for `keep_alive_s` is sent a comment: its answer then
    begins with status 200 even if the first output is still to come.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        headers: Sequence[Header] = (),
        keep_alive_s: float | None = None,
        server: ServerExtension | None = None,
    ) -> None:
        """`server` is the extension of our own HTTP server, where that serves the request."""
        self.opened = False
        self.ended_early = False
        """Whether `end_early` ended the block."""
        self._gone = False
        self._receive = receive
        self._send = send
        self._headers = headers
        self._keep_alive_s = keep_alive_s
        self._on_disconnect = None if server is None else server.on_disconnect
        self._send_now = None if server is None else server.send_now
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._sending = False
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alives: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._on_disconnect is None:
            self._timer = self._loop.call_later(_WATCH_AFTER_S, self._watch)
        else:
            self._on_disconnect.add(self._hang_up)
            if self._keep_alive_s is not None:
                self._schedule(self._sent_at + self._keep_alive_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> bool:
        assert self._task is not None
        if self._on_disconnect is not None:
            self._on_disconnect.discard(self._hang_up)
        if self._timer is not None:
            self._timer.cancel()
        # The traceback of a finished task refers to this connection: kept here, it would leave a
        # cycle of everything that an answer used to the garbage collector.
        watcher, self._watcher = self._watcher, None
        if watcher is not None or self._keep_alives:
            tasks = self._keep_alives | ({watcher} if watcher is not None else set())
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not (self._gone or self.ended_early):
            return False
        # The cancellation was this object's own; one from outside stays pending.
        return self._task.uncancel() == 0 and kind is asyncio.CancelledError

    @property
    def gone(self) -> bool:
        """Whether the client hung up."""
        return self._gone

    async def open(self, extra: Iterable[Header] = ()) -> None:
        """Send the status and headers of a stream, once."""
        if not self.opened:
            self.opened = True
            headers = [*self._headers, *extra]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    def send_now(self, headers: Iterable[Header], parts: Iterable[bytes]) -> bool:
        """Open the stream and write, where the server can do so without waiting."""
        send_now = self._send_now
        if send_now is None or self._sending:
            return False
        if not self.opened:
            start = [*self._headers, *headers]
            if not send_now({"type": "http.response.start", "status": 200, "headers": start}):
                return False
            self.opened = True
        self._sent_at = self._loop.time()
        body = {"type": "http.response.body", "body": b"".join(parts), "more_body": True}
        return send_now(body)

    async def write(self, data: bytes, *, last: bool = False) -> None:
        self._sent_at = self._loop.time()
        self._sending = True
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})
        self._sending = False

    def end_early(self) -> None:
        """End the block from outside; its owner then sends the client the reason."""
        if self._task is not None and not (self._gone or self.ended_early):
            self.ended_early = True
            self._task.cancel()

    def _watch(self) -> None:
        self._watcher = self._loop.create_task(self._wait_for_hang_up())
        if self._keep_alive_s is not None:
            self._schedule(self._sent_at + self._keep_alive_s)

    async def _wait_for_hang_up(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._hang_up()

    def _hang_up(self) -> None:
        if not (self.ended_early or self._gone):
            self._gone = True
            assert self._task is not None
            self._task.cancel()

    def _schedule(self, when: float) -> None:
        self._timer = self._loop.call_at(when, self._check_silence)

    def _check_silence(self) -> None:
        assert self._keep_alive_s is not None
        now = self._loop.time()
        if now < self._sent_at + self._keep_alive_s:
            self._schedule(self._sent_at + self._keep_alive_s)
        elif self._sending:  # the client does not read what it was sent
            self._schedule(now + self._keep_alive_s)
        else:
            self._keep_alive()

    def _keep_alive(self) -> None:
        assert self._keep_alive_s is not None
        self._schedule(self._loop.time() + self._keep_alive_s)
        task = self._loop.create_task(self._send_keep_alive())
        self._keep_alives.add(task)
        task.add_done_callback(self._keep_alives.discard)

    async def _send_keep_alive(self) -> None:
        await self.open()
        await self.write(KEEP_ALIVE)
