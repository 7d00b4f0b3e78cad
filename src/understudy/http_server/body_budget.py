"""An ASGI app with one bound on the request bodies that are in memory at the same time."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from understudy.http_server.refusal import refuse

FREE_BYTES = 65_536
"""Of each request; a short message gets through while large ones hold the whole budget."""
_RETRY_AFTER_S = 5


class BodyBudget:
    """Answers 429 to a request whose body does not fit. A body counts until its response ends."""

    def __init__(self, app: ASGIApp, together: int) -> None:
        self._app = app
        self._left = together

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(self, receive, send)
        try:
            await self._app(scope, request.receive, request.send)
        finally:
            self._left += request.held
        if request.refused:
            await refuse(send, "Too many uploads at once. Try again.", _RETRY_AFTER_S)

    def reserve(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True


@dataclass(slots=True)
class _Request:
    budget: BodyBudget
    inner_receive: Receive
    inner_send: Send
    size: int = 0
    held: int = 0
    started: bool = False
    refused: bool = False

    async def receive(self) -> Message:
        if self.refused:
            return {"type": "http.disconnect"}
        message = await self.inner_receive()
        self.size += len(message.get("body", b""))
        more = max(0, self.size - FREE_BYTES) - self.held
        if not self.budget.reserve(more):
            # The app stops to read; its response is replaced.
            self.refused = not self.started
            return {"type": "http.disconnect"}
        self.held += more
        return message

    async def send(self, message: Message) -> None:
        if not self.refused:
            self.started = True
            await self.inner_send(message)
