"""What the connections of one server share: limits, application, running work."""

import asyncio
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

import structlog

from understudy.http_server.exchange import Application, Exchange
from understudy.http_server.request_task import RequestTask, Work

_MOST_IDLE = 64
"""Tasks that are kept for later requests."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Limits that apply before authentication; httptools has none of them."""

    connections: int = 1000
    head_bytes: int = 65_536
    """Of a head, of what follows the last byte of a body, and of requests that wait in line."""
    headers: int = 200
    """A header of five bytes takes 130 bytes of memory."""
    pipelined: int = 8
    """Requests that may wait in line behind the one that is being answered, or come with it."""
    head_s: float = 20.0
    body_s: float = 120.0
    idle_s: float = 5.0
    """How long a connection may be open between two requests."""
    grace_s: float = 3.0
    """How long running requests may take after the server was stopped."""
    write_s: float = 30.0
    """How long a client may read nothing of a response."""


class Connected(Protocol):
    """A connection as the server sees it."""

    @property
    def waits_until(self) -> float | None:
        """When the client runs out of time, in the loop's time; `None` while it has to do
        nothing."""
        ...

    def shut_down(self) -> None:
        """Close when the response that is being sent is complete; at once where there is none."""
        ...

    def abort(self) -> None: ...


class ServerState:
    """Connections, and the tasks that answer their requests."""

    def __init__(self, app: Application, limits: ClientLimits) -> None:
        self.app = app
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connected] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        """Those that answer requests, and those that are idle."""
        self._idle: list[RequestTask] = []
        self.stopping = False
        self._all_ended = asyncio.Event()
        self._second = 0
        self._heads: dict[int, bytes] = {}
        """Status line and Date by status, for the current second."""

    def head(self, status: int) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._heads.clear()
        head = self._heads.get(status)
        if head is None:
            line = (
                f"HTTP/1.1 {status} {_phrase(status)}\r\ndate: {formatdate(now, usegmt=True)}\r\n"
            )
            head = self._heads[status] = line.encode("latin-1")
        return head

    def add(self, connection: Connected) -> None:
        """Past the number of connections, close the one whose client runs out of time first."""
        self.connections.add(connection)
        if len(self.connections) > self.limits.connections:
            waiting = {
                until: other
                for other in self.connections
                if (until := other.waits_until) is not None
            }
            waiting[min(waiting)].abort()

    def discard(self, connection: Connected) -> None:
        self.connections.discard(connection)
        self._check_end()

    def run(self, exchange: Exchange, work: Work) -> RequestTask:
        if self._idle:
            reused = self._idle.pop()
            reused.begin(exchange, work)
            return reused
        made = RequestTask(self.loop, self._keep, exchange, work)
        self.tasks.add(made.task)
        made.task.add_done_callback(self._task_ended)
        return made

    def _keep(self, idle: RequestTask) -> bool:
        if self.stopping or len(self._idle) >= _MOST_IDLE:
            return False
        self._idle.append(idle)
        return True

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._check_end()

    def stop(self) -> None:
        self.stopping = True
        for connection in tuple(self.connections):
            connection.shut_down()
        for idle in self._idle:
            idle.task.cancel()
        self._idle.clear()
        self._check_end()

    def _check_end(self) -> None:
        if self.stopping and not (self.connections or self.tasks):
            self._all_ended.set()

    async def end(self) -> None:
        """Wait until all responses are sent, for `grace_s` at most; then cancel the rest."""
        try:
            async with asyncio.timeout(self.limits.grace_s):
                await self._all_ended.wait()
        except TimeoutError:
            _log.warning("http.requests_cancelled", running=len(self.tasks) - len(self._idle))
        for task in tuple(self.tasks):
            task.cancel()
        for connection in tuple(self.connections):
            # A client that does not read would keep its connection open.
            connection.abort()
        if self.tasks:
            await asyncio.wait(self.tasks)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
