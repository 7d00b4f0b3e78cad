"""The connections to one server: idle ones to reuse, dials under way, and their end."""

import asyncio

from understudy.errors import ErrorClass, Unreachable
from understudy.llm.http.call import Call
from understudy.llm.http.connection import Connection
from understudy.llm.http.connector import Connector, connect_error

_CLOSE_PATIENCE_S = 2.0


class ConnectionPool:
    """Lends each connection to one call at a time; reuses the one that was idle the shortest.

    `keepalive_s` is below the time after which the server closes an idle connection. Bound to the
    event loop that it is used in; in another one it starts empty.
    """

    def __init__(self, connector: Connector, keepalive_s: float) -> None:
        self._connector = connector
        self._keepalive_s = keepalive_s
        self._idle: list[Connection] = []
        """Those that were idle the longest first."""
        self._open: set[Connection] = set()
        self._dials: dict[Call, asyncio.Task[None]] = {}
        self._generation = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._emptied: asyncio.Future[None] | None = None

    def start(self, call: Call, connect_timeout_s: float) -> None:
        """Send a call over an idle connection, at once, or over one that is dialled for it."""
        loop = self._loop
        if loop is None or not loop.is_running():
            loop = self._move_to(asyncio.get_running_loop())
        if self._closing:
            call.holder = self
            loop.call_soon(call.fail, _closed())
            return
        idle = self._idle
        oldest = loop.time() - self._keepalive_s if idle else 0.0
        while idle:
            connection = idle.pop()
            if connection.is_usable(self._generation, oldest):
                connection.send(call)
                return
            connection.abort()
        call.holder = self
        task = loop.create_task(self._dial(call, connect_timeout_s))
        self._dials[call] = task

    async def aclose(self) -> None:
        """Close every connection; the calls on them fail as `cancelled`."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            return
        self._closing = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        dials = [*self._dials.values()]
        for call in [*self._dials, *(c.call for c in self._open if c.call is not None)]:
            call.fail(_closed())
        for connection in self._open:
            connection.abort()
        await asyncio.gather(*dials, return_exceptions=True)
        if self._open:  # the loop closes the sockets one pass later
            self._emptied = loop.create_future()
            await asyncio.wait([self._emptied], timeout=_CLOSE_PATIENCE_S)
        self._closing = False

    # As the holder of the calls it dials for.

    def drop(self, call: Call) -> None:
        task = self._dials.pop(call, None)
        if task is not None:
            task.cancel()

    def set_paused(self, *, paused: bool) -> None:
        """The connection asks the call when it is made."""

    # As the owner of connections.

    def opened(self, connection: Connection) -> None:
        connection.generation = self._generation
        self._open.add(connection)

    def idle(self, connection: Connection) -> None:
        assert self._loop is not None
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_expired)

    def gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def distrust(self) -> None:
        """Whatever forgot one connection may have forgotten all that were made before now."""
        self._generation += 1

    # Its own affairs.

    def _close_expired(self) -> None:
        assert self._loop is not None
        oldest = self._loop.time() - self._keepalive_s
        self._sweep = None
        kept: list[Connection] = []
        for connection in self._idle:
            if connection.is_usable(self._generation, oldest):
                kept.append(connection)
            else:
                connection.abort()
        self._idle = kept
        if kept:
            left = kept[0].idle_since - oldest
            self._sweep = self._loop.call_later(left, self._close_expired)

    async def _dial(self, call: Call, connect_timeout_s: float) -> None:
        try:
            async with asyncio.timeout(connect_timeout_s):
                await self._connector.connect(lambda: Connection(self, call))
        except Exception as error:  # noqa: BLE001 - the root of this task
            failure = connect_error(error)
            if failure.error_class is ErrorClass.INTERNAL:
                report = {"message": "connecting failed unexpectedly", "exception": error}
                asyncio.get_running_loop().call_exception_handler(report)
            self._dials.pop(call, None)
            call.fail(failure)
        finally:
            self._dials.pop(call, None)

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        """Forget what belongs to a loop that is over: nothing of it can be closed any more."""
        self._loop = loop
        self._sweep = None
        self._idle.clear()
        self._open.clear()
        self._dials.clear()
        return loop


def _closed() -> Unreachable:
    return Unreachable(ErrorClass.CANCELLED, detail="the client was closed")
