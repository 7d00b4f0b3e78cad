import asyncio
from collections.abc import MutableMapping

from understudy.gateway.client_connection import ClientConnection
from waiting import LIMIT_S


async def never() -> dict[str, object]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    sent: asyncio.Queue[MutableMapping[str, object]] = asyncio.Queue()

    async with asyncio.timeout(LIMIT_S):
        async with ClientConnection(never, sent.put, [(b"a", b"b")], keep_alive_s=0.01) as line:
            messages = [await sent.get() for _ in range(3)]
            assert line.opened

    assert messages[0] == {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    assert {message["body"] for message in messages[1:]} == {b": keep-alive\n\n"}


async def test_headers_are_sent_once() -> None:
    sent: asyncio.Queue[MutableMapping[str, object]] = asyncio.Queue()

    async with ClientConnection(never, sent.put) as line:
        await line.open([(b"a", b"b")])
        await line.open()

    assert sent.qsize() == 1
