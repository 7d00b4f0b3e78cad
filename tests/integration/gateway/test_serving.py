import asyncio
import socket

from starlette.types import Receive, Scope, Send

from understudy.gateway.http import answer
from understudy.platforms.web.serve import WebServer


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await answer(send, 200, [], b"hello")


async def test_answers_do_not_wait_for_acknowledgements() -> None:
    async with WebServer(hello, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"hello")

        (connection,) = server._server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()
