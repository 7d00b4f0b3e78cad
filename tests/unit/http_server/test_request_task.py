"""Tasks that answer one request after the other."""

import asyncio
import gc
import weakref

from structlog.testing import capture_logs

from gateway_call import MemoryTransport
from understudy.http_server.connection import Connection
from understudy.http_server.exchange import Exchange
from understudy.http_server.state import ClientLimits, ServerState

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PASSES = 10
"""Passes of the event loop; no work here takes as many."""


class Receiver:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def data(self, data: bytes) -> None:
        raise AssertionError("the requests have no body")

    def end(self) -> None:
        """The application has begun already."""

    def lost(self) -> None:
        self._exchange.cancel()


class Application:
    """Answers with the number of the task; `waits` are the requests that never end."""

    def __init__(self, *waits: int) -> None:
        self.exchanges: list[Exchange] = []
        self.tasks: list[asyncio.Task[None] | None] = []
        self.ended: list[str] = []
        self._waits = waits

    def __call__(self, exchange: Exchange) -> Receiver:
        self.exchanges.append(exchange)
        exchange.run(self._work(exchange, len(self.exchanges)))
        return Receiver(exchange)

    async def _work(self, exchange: Exchange, number: int) -> None:
        self.tasks.append(asyncio.current_task())
        try:
            if number in self._waits:
                await asyncio.Event().wait()
            exchange.respond(200, b"", b"answer %d" % number)
            self.ended.append("answered")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise


class Broken(Application):
    async def _work(self, exchange: Exchange, number: int) -> None:
        self.tasks.append(asyncio.current_task())
        raise ValueError("a mistake")


def connected(state: ServerState) -> tuple[Connection, MemoryTransport]:
    connection, transport = Connection(state), MemoryTransport("127.0.0.1")
    connection.connection_made(transport)
    return connection, transport


async def passes() -> None:
    for _ in range(PASSES):
        await asyncio.sleep(0)


async def test_one_task_answers_requests_that_come_one_after_the_other() -> None:
    app = Application()
    state = ServerState(app, ClientLimits())
    connection, transport = connected(state)

    for _ in range(3):
        connection.data_received(GET)
        await passes()

    assert transport.written.count(b"200 OK") == 3
    assert len(set(app.tasks)) == 1
    await state.end()


async def test_requests_at_the_same_time_have_a_task_each() -> None:
    app = Application(1, 2)
    state = ServerState(app, ClientLimits(grace_s=0))
    for _ in range(3):
        connected(state)[0].data_received(GET)
    await passes()

    assert len(set(app.tasks)) == 3
    await state.end()
    assert app.ended == ["answered", "cancelled", "cancelled"]
    assert state.tasks == set()


async def test_work_that_is_cancelled_before_it_begins_is_never_begun() -> None:
    app = Application()
    state = ServerState(app, ClientLimits())
    connection, transport = connected(state)
    connection.data_received(GET)
    await passes()

    connection.data_received(GET)
    app.exchanges[-1].cancel()
    await passes()

    assert app.ended == ["answered"]
    assert transport.written.count(b"500 Internal Server Error") == 1
    await state.end()


async def test_a_request_that_is_answered_cancels_no_later_one() -> None:
    app = Application()
    state = ServerState(app, ClientLimits())
    connection, transport = connected(state)
    connection.data_received(GET)
    await passes()

    connection.data_received(GET)
    app.exchanges[0].cancel()
    await passes()

    assert transport.written.count(b"200 OK") == 2
    await state.end()


async def test_a_task_that_was_cancelled_answers_no_later_request() -> None:
    app = Application(1)
    state = ServerState(app, ClientLimits())
    connection, _ = connected(state)
    connection.data_received(GET)
    await passes()
    connection.connection_lost(None)
    await passes()

    connected(state)[0].data_received(GET)
    await passes()

    assert app.ended == ["cancelled", "answered"]
    assert len(set(app.tasks)) == 2
    await state.end()


async def test_a_mistake_in_one_answer_is_logged_and_costs_no_later_one() -> None:
    app = Broken()
    state = ServerState(app, ClientLimits())
    with capture_logs() as logs:
        for _ in range(2):
            connection, transport = connected(state)
            connection.data_received(GET)
            await passes()
            assert b"500 Internal Server Error" in transport.written

    assert len(set(app.tasks)) == 1
    assert [line["event"] for line in logs] == ["http.request_failed"] * 2
    await state.end()


async def test_an_idle_task_holds_no_connection() -> None:
    state = ServerState(Application(), ClientLimits())
    connection, _ = connected(state)
    connection.data_received(GET)
    await passes()
    connection.connection_lost(None)

    left = weakref.ref(connection)
    state.app = Application()
    del connection, _
    gc.collect()

    assert len(state.tasks) == 1
    assert left() is None
    await state.end()


async def test_a_server_that_stops_keeps_no_task() -> None:
    app = Application()
    state = ServerState(app, ClientLimits())
    connection, _ = connected(state)
    connection.data_received(GET)
    await passes()

    state.stop()
    await passes()

    assert state.tasks == set()
