"""What the pages' own APIs share: reading JSON with a limit, and refusing in words."""

import json
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from understudy.errors import StorageError

MAX_BODY = 300_000

Endpoint = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """A request the page should not have made; the text is fit for the person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_body(
    request: Request, limit: int, refusal: str = "That is too much at once."
) -> bytes:
    """The body, read no further than `limit` bytes."""
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise Refused(413, refusal)
    except ClientDisconnect:
        raise Refused(400, "That did not arrive whole.") from None
    return bytes(body)


async def read_json(request: Request, limit: int = MAX_BODY) -> dict[str, object]:
    """The body as a JSON object, read no further than `limit` bytes."""
    body = await read_body(request, limit)
    try:
        fields = _whole(json.loads(body))
    except (ValueError, RecursionError):
        raise Refused(400, "That was no JSON.") from None
    if not isinstance(fields, dict):
        raise Refused(400, "That was no JSON object.")
    return fields


def _whole(value: object) -> object:
    """Without halves of characters: JSON's escapes may hold such, but neither databases nor
    models take them, nor could the page be told of them."""
    match value:
        case str():
            if value.isascii():
                return value
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_whole(item) for item in value]
        case dict():
            return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def answered(call: Endpoint) -> Endpoint:
    """Turn what can go wrong into JSON that the page shows as it stands."""

    async def answer(request: Request) -> Response:
        try:
            return await call(request)
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, status_code=refused.status)
        except StorageError:
            sorry = "The database does not answer right now. Try again in a moment."
            return JSONResponse({"error": sorry}, status_code=503)

    return answer
