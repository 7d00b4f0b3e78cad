"""What an ASGI application of the tests answers with."""

from collections.abc import Sequence

from starlette.types import Send

from understudy.http_server.exchange import Header


async def answer(send: Send, body: bytes, headers: Sequence[Header] = ()) -> None:
    named = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": named})
    await send({"type": "http.response.body", "body": body})
