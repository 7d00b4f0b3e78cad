"""The little HTTP the gateway needs: a request's head, its body, an answer in one piece."""

from collections.abc import Mapping

from starlette.types import Receive, Send

from understudy.errors import RequestRefused

Header = tuple[bytes, bytes]


JSON: Header = (b"content-type", b"application/json")
SSE: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx holds a stream back until its buffer is full, unless it is told not to.
    (b"x-accel-buffering", b"no"),
)


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes | None:
    """The whole request body, `None` when the client hung up before its end.

    Raises `RequestRefused` past `limit` bytes, at once where the client tells the length.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        more = bool(message.get("more_body", False))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> RequestRefused:
    return RequestRefused(
        413, "request_too_large", f"The request is larger than the {limit} bytes allowed here."
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
