"""The persona and the server of one conversation, chosen on the chat page."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.conversation.inbox import Channel
from understudy.llm.messages import ImagePart
from understudy.platforms.web.api import ApiError, json_routes, read_json
from understudy.platforms.web.chat import channel_of
from understudy.platforms.web.rendering import Renderer, Source, plain
from understudy.platforms.web.serializers import Json


@dataclass(frozen=True, slots=True)
class PersonaView:
    key: str
    """Empty for the built-in persona."""
    name: str
    greetings: tuple[str, ...] = ()
    has_picture: bool = False


@dataclass(frozen=True, slots=True)
class PersonaChoice:
    default: Callable[[], PersonaView]
    """The persona of a conversation without a choice."""
    available: Callable[[], Sequence[PersonaView]]
    current: Callable[[Channel], str | None]
    """The chosen persona's key; None is the default."""
    choose: Callable[[Channel, str | None], Awaitable[None]]
    """Raises StorageError."""
    picture: Callable[[str], Awaitable[ImagePart | None]]

    def of(self, channel: Channel) -> PersonaView:
        """The persona that replies in this conversation."""
        chosen = self.current(channel)
        return next((one for one in self.available() if one.key == chosen), self.default())


@dataclass(frozen=True, slots=True)
class ServerChoice:
    allowed: Callable[[], bool]
    available: Callable[[], Sequence[str]]
    """provider/model of all candidates, in their order."""
    current: Callable[[Channel], str | None]
    choose: Callable[[Channel, str | None], Awaitable[None]]
    """Raises StorageError."""


class PersonaChoiceApi:
    def __init__(self, choice: PersonaChoice, renderer: Callable[[], Renderer]) -> None:
        self._choice = choice
        self._renderer = renderer

    def routes(self) -> list[Route]:
        path = "/api/chats/{chat}/persona"
        return json_routes(
            ("GET", path, self.show),
            ("POST", path, self.choose),
            ("GET", "/api/personas/{key}/picture", self.picture),
        )

    async def show(self, request: Request) -> Response:
        renderer = self._renderer()
        personas = self._choice.available()
        shown = [self._choice.default(), *personas]
        await renderer.render_ahead(Source(text) for one in shown for text in one.greetings)
        return JSONResponse(
            {
                "persona": self._choice.current(channel_of(request)),
                "default": _row(self._choice.default(), renderer),
                "personas": [_row(persona, renderer) for persona in personas],
            }
        )

    async def choose(self, request: Request) -> Response:
        channel, key = channel_of(request), (await read_json(request)).get("persona")
        if key is not None and key not in [one.key for one in self._choice.available()]:
            raise ApiError(404, "There is no such persona.")
        await self._choice.choose(channel, str(key) if key is not None else None)
        return JSONResponse({"persona": key})

    async def picture(self, request: Request) -> Response:
        image = await self._choice.picture(str(request.path_params["key"]))
        if image is None:
            raise ApiError(404, "This persona has no picture.")
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(image.data, media_type=image.media_type, headers=headers)


class ServerChoiceApi:
    def __init__(self, choice: ServerChoice) -> None:
        self._choice = choice

    def routes(self) -> list[Route]:
        path = "/api/chats/{chat}/server"
        return json_routes(
            ("GET", path, self.show),
            ("POST", path, self.choose),
        )

    async def show(self, request: Request) -> Response:
        servers = list(self._choice.available()) if self._choice.allowed() else []
        current = self._choice.current(channel_of(request))
        return JSONResponse({"server": current if current in servers else None, "servers": servers})

    async def choose(self, request: Request) -> Response:
        channel, name = channel_of(request), (await read_json(request)).get("server")
        if not self._choice.allowed():
            raise ApiError(403, "The operator does not let people choose (web.choose_order).")
        if name is not None and name not in self._choice.available():
            raise ApiError(404, "There is no such server.")
        await self._choice.choose(channel, str(name) if name is not None else None)
        return JSONResponse({"server": name})


def _row(persona: PersonaView, renderer: Renderer) -> Json:
    return {
        "key": persona.key,
        "name": persona.name,
        "greetings": [
            list(renderer.blocks(Source(text)) or plain(text)) for text in persona.greetings
        ],
        "picture": persona.has_picture,
    }
