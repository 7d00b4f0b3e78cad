import asyncio
import gc
import socket

import aiohttp
import pytest
from starlette.types import Receive, Scope, Send

from asgi_answer import answer
from gateway_setup import gateway_and_servers
from understudy.http_server.asgi import AsgiApplication
from understudy.http_server.connection import Connection
from understudy.http_server.server import WebServer


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await answer(send, b"hello")


async def test_answers_do_not_wait_for_acknowledgements() -> None:
    async with WebServer(AsgiApplication(hello), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"hello")

        assert server._state is not None
        (connection,) = server._state.connections
        assert isinstance(connection, Connection)
        accepted = connection._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("pace", ["ok", "ok:0.02"])
async def test_a_reply_that_is_over_leaves_nothing_for_the_garbage_collector(
    pace: str, *, stream: bool
) -> None:
    async def ask(http: aiohttp.ClientSession, url: str) -> None:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
        async with http.post(f"{url}/chat/completions", json=body) as response:
            await response.read()

    async with gateway_and_servers(pace) as here, aiohttp.ClientSession() as http:
        await ask(http, here.url)
        gc.collect()
        gc.disable()
        try:
            await asyncio.gather(*(ask(http, here.url) for _ in range(20)))
            circles = gc.collect()
        finally:
            gc.enable()

    assert circles < 100  # of others, and not of each reply
