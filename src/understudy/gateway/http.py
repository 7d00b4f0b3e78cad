"""The little HTTP the gateway needs: headers, and an answer in one piece."""

from starlette.types import Receive, Send

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
