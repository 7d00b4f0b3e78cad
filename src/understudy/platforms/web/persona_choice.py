"""The persona of one conversation, chosen on the chat page."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.conversation.inbox import Channel
from understudy.platforms.web.api import ApiError, read_json, with_json_errors
from understudy.platforms.web.chat import channel_of


@dataclass(frozen=True, slots=True)
class PersonaChoice:
    available: Callable[[], Sequence[tuple[str, str]]]
    """(key, name) of every persona."""
    current: Callable[[Channel], str | None]
    """The chosen persona's key; None is the configured one."""
    choose: Callable[[Channel, str | None], Awaitable[None]]
    """Raises StorageError."""


class PersonaChoiceApi:
    def __init__(self, choice: PersonaChoice) -> None:
        self._choice = choice

    def routes(self) -> list[Route]:
        path = "/api/chats/{chat}/persona"
        return [
            Route(path, with_json_errors(self.show), methods=["GET"]),
            Route(path, with_json_errors(self.choose), methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        personas = [{"key": key, "name": name} for key, name in self._choice.available()]
        current = self._choice.current(channel_of(request))
        return JSONResponse({"persona": current, "personas": personas})

    async def choose(self, request: Request) -> Response:
        channel, key = channel_of(request), (await read_json(request)).get("persona")
        if key is not None and key not in dict(self._choice.available()):
            raise ApiError(404, "There is no such persona.")
        await self._choice.choose(channel, str(key) if key is not None else None)
        return JSONResponse({"persona": key})
