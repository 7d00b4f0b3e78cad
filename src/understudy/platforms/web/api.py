"""Shared parts of the pages' JSON APIs: reading bodies within a limit, errors as JSON."""

import json
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.errors import StorageError

MAX_BODY = 300_000

Endpoint = Callable[[Request], Awaitable[Response]]


class ApiError(Exception):
    """A request that is refused; the page shows the text to the person."""

    def __init__(self, status: int, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s

    def response(self) -> JSONResponse:
        content: dict[str, object] = {"error": str(self)}
        headers = {}
        if self.retry_after_s is not None:
            content["retry_after"] = self.retry_after_s
            headers["Retry-After"] = str(self.retry_after_s)
        return JSONResponse(content, status_code=self.status, headers=headers)


async def read_body(
    request: Request, limit: int, too_large: str = "The request is too large."
) -> bytes:
    """The body, read no further than `limit` bytes. Raises ApiError."""
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise ApiError(413, too_large)
    except ClientDisconnect:
        raise ApiError(400, "The request was incomplete.") from None
    return bytes(body)


async def read_json(request: Request, limit: int = MAX_BODY) -> dict[str, object]:
    """The body as a JSON object, read no further than `limit` bytes. Raises ApiError."""
    body = await read_body(request, limit)
    try:
        fields = _without_surrogates(json.loads(body))
    except (ValueError, RecursionError):
        raise ApiError(400, "The request is not JSON.") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "The request is not a JSON object.")
    return fields


def _without_surrogates(value: object) -> object:
    """Replace lone surrogates: JSON's escapes can contain them, databases and models reject
    them, and UTF-8 cannot encode them."""
    match value:
        case str():
            if value.isascii():
                return value
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_without_surrogates(item) for item in value]
        case dict():
            return {
                _without_surrogates(key): _without_surrogates(item) for key, item in value.items()
            }
    return value


def json_routes(*table: tuple[str, str, Endpoint]) -> list[Route]:
    """Routes of (method, path, endpoint), whose expected errors are JSON that the page shows."""
    return [Route(path, with_json_errors(call), methods=[method]) for method, path, call in table]


def with_json_errors(call: Endpoint) -> Endpoint:
    """The endpoint, with its expected errors as JSON that the page shows."""

    async def endpoint(request: Request) -> Response:
        try:
            return await call(request)
        except ApiError as error:
            return error.response()
        except StorageError:
            message = "The database does not answer at the moment. Try again."
            return JSONResponse({"error": message}, status_code=503)

    return endpoint
