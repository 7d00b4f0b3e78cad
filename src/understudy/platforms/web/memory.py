"""Commands of the memory, typed on the chat page, and search over a browser's conversations."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.conversation.inbox import Channel
from understudy.platforms.web.api import ApiError, read_json, with_json_errors
from understudy.platforms.web.chat import MAX_TEXT, browser_of, channel_of

Search = Callable[[str, str], Awaitable[Sequence[tuple[Channel, str]]]]
"""(browser, words) → channels and texts of the messages that contain them, newest first."""


@dataclass(frozen=True, slots=True)
class MemoryActions:
    names: frozenset[str]
    """The commands, with their slash."""
    run: Callable[[str, Channel, str], Awaitable[str]]
    """(line, conversation, browser) → the text to show. Raises StorageError."""
    search: Search | None = None
    """None where no text is stored."""


class MemoryApi:
    def __init__(self, actions: MemoryActions) -> None:
        self._actions = actions

    def routes(self) -> list[Route]:
        path = "/api/chats/{chat}/command"
        return [Route(path, with_json_errors(self.command), methods=["POST"])]

    async def command(self, request: Request) -> Response:
        line = str((await read_json(request)).get("text", "")).strip()
        if line.partition(" ")[0] not in self._actions.names or len(line) > MAX_TEXT:
            raise ApiError(404, "There is no such command.")
        text = await self._actions.run(line, channel_of(request), browser_of(request))
        return JSONResponse({"text": text})
