"""Reading what clients send: within what one may send, and what all may hold."""

from collections.abc import Mapping

from starlette.types import Receive

from understudy.errors import RequestRefused
from understudy.gateway.admission import COME_BACK_S


class Bodies:
    """The bodies of all requests that are being answered: each has at most `each` bytes, and
    they hold `together` at most."""

    def __init__(self, each: int, together: int) -> None:
        self._each = min(each, together)
        self._left = together

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """A whole body, to be given back when it is not needed any more; `None` when the client
        hung up before its end.

        Raises `RequestRefused` (413, 429), at once where the client tells the length.
        """
        length = headers.get(b"content-length", b"")
        self._check(int(length) if length.isdigit() else 0, self._left)
        parts: list[bytes] = []
        whole = False
        try:
            whole = await self._collect(receive, parts)
        finally:
            if not whole:
                self._left += sum(map(len, parts))
        if not whole:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def give_back(self, body: bytes) -> None:
        self._left += len(body)

    async def _collect(self, receive: Receive, parts: list[bytes]) -> bool:
        """Whether the body came to its end."""
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            part: bytes = message.get("body", b"")
            size += len(part)
            self._check(size, size + self._left - len(part))
            self._left -= len(part)
            parts.append(part)
            more = bool(message.get("more_body", False))
        return True

    def _check(self, size: int, room: int) -> None:
        if size > self._each:
            raise RequestRefused(
                413,
                "request_too_large",
                f"The request is larger than the {self._each} bytes allowed here.",
            )
        if size > room:
            raise RequestRefused(
                429,
                "busy",
                "Too much is being answered already to take in a request of this size.",
                retry_after_s=COME_BACK_S,
            )
