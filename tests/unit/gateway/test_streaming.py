"""What a stream sends by itself. Its events are tested with the gateway."""

import asyncio

from gateway_call import MemoryTransport
from understudy.gateway.responses import Form
from understudy.gateway.streaming import KeepAlive, StreamSink
from understudy.http_server.connection import Connection
from understudy.http_server.exchange import Exchange, Receiver
from understudy.http_server.state import ClientLimits, ServerState
from understudy.llm.messages import TextDelta
from waiting import LIMIT_S

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"


class Opened:
    """A request, and the transport that its response is written to."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.transport = MemoryTransport("127.0.0.1")
        self.connection = Connection(ServerState(self._take, ClientLimits()))
        self.connection.connection_made(self.transport)
        self.connection.data_received(REQUEST)

    def _take(self, exchange: Exchange) -> Receiver | None:
        self.exchanges.append(exchange)
        return None

    def sink(self, lines: bytes = b"", keep_alive_s: float = 60.0) -> StreamSink:
        form = Form("r1", 5, include_usage=False)
        return StreamSink(form, self.exchanges[0], lines, KeepAlive(keep_alive_s))

    @property
    def written(self) -> bytes:
        return bytes(self.transport.written)


async def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    opened = Opened()
    sink = opened.sink(b"a: b\r\n", keep_alive_s=0.01)

    async with asyncio.timeout(LIMIT_S):
        while opened.written.count(b": keep-alive\n\n") < 2:
            await opened.transport.changed.wait()
            opened.transport.changed.clear()
    sink.close()

    head, _, body = opened.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\na: b\r\n" in head
    assert body.startswith(b"e\r\n: keep-alive\n\n\r\n")


async def test_each_of_several_silent_streams_is_kept_alive() -> None:
    first, second, keep_alive = Opened(), Opened(), KeepAlive(0.01)
    form = Form("r1", 5, include_usage=False)
    sinks = [StreamSink(form, each.exchanges[0], b"", keep_alive) for each in (first, second)]

    async with asyncio.timeout(LIMIT_S):
        while b": keep-alive\n\n" not in second.written:
            await second.transport.changed.wait()
            second.transport.changed.clear()
    assert first.written.count(b": keep-alive\n\n") == 1
    for sink in sinks:
        sink.close()


async def test_an_error_in_one_stream_leaves_the_others_alive() -> None:
    errors: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))

    class Broken(StreamSink):
        def tick(self) -> None:
            raise ValueError

    opened, keep_alive, form = Opened(), KeepAlive(0.01), Form("r1", 5, include_usage=False)
    broken = Broken(form, Opened().exchanges[0], b"", keep_alive)
    sink = StreamSink(form, opened.exchanges[0], b"", keep_alive)

    async with asyncio.timeout(LIMIT_S):
        while opened.written.count(b": keep-alive\n\n") < 2:
            await opened.transport.changed.wait()
            opened.transport.changed.clear()
    broken.close()
    sink.close()
    assert {type(error) for error in errors} == {ValueError}


async def test_a_client_that_does_not_read_is_not_kept_alive() -> None:
    opened = Opened()
    opened.connection.pause_writing()
    sink = opened.sink(keep_alive_s=0.01)

    due = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, due.set)
    await due.wait()
    assert not sink.try_flush()
    sink.close()
    assert opened.written == b""


async def test_the_head_is_sent_with_the_first_output_and_once() -> None:
    opened = Opened()
    sink = opened.sink()
    assert not sink.is_visible()

    sink.write(TextDelta("Hi"))
    assert sink.try_flush()
    sink.write(TextDelta(" there"))
    assert sink.try_flush()
    sink.close()

    assert sink.is_visible()
    assert opened.written.count(b"HTTP/1.1 200 OK") == 1
    assert opened.written.count(b"data: {") == 3  # the role comes first
