"""Commands of the memory, typed on the chat page, and search over a browser's conversations."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.conversation.inbox import Channel
from understudy.memory.store import Proposal
from understudy.platforms.web.api import ApiError, json_routes, read_json
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
    proposal: Callable[[str], Awaitable[Proposal | None]] | None = None
    """browser → the note that waits for its person's confirmation. Raises StorageError."""
    answer: Callable[[str, str, bool], Awaitable[str]] | None = None
    """(browser, id of the proposal, whether to store it) → the text to show."""


class MemoryApi:
    def __init__(self, actions: MemoryActions) -> None:
        self._actions = actions

    def routes(self) -> list[Route]:
        path = "/api/proposal"
        routes = json_routes(("POST", "/api/chats/{chat}/command", self.command))
        if self._actions.proposal is not None and self._actions.answer is not None:
            routes += json_routes(("GET", path, self.proposal), ("POST", path, self.answer))
        return routes

    async def command(self, request: Request) -> Response:
        line = str((await read_json(request)).get("text", "")).strip()
        if line.partition(" ")[0] not in self._actions.names or len(line) > MAX_TEXT:
            raise ApiError(404, "There is no such command.")
        text = await self._actions.run(line, channel_of(request), browser_of(request))
        return JSONResponse({"text": text})

    async def proposal(self, request: Request) -> Response:
        """The note that waits for a confirmation; without one, an empty object."""
        assert self._actions.proposal is not None
        found = await self._actions.proposal(browser_of(request))
        return JSONResponse({} if found is None else {"id": found.id, "text": found.text})

    async def answer(self, request: Request) -> Response:
        assert self._actions.answer is not None
        fields = await read_json(request)
        proposal_id, yes = str(fields.get("id", "")), fields.get("yes") is True
        text = await self._actions.answer(browser_of(request), proposal_id, yes)
        return JSONResponse({"text": text})
