"""The operator's personas: a dropped card is taken in, and a text shows the lore it brings up."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.conversation.personas.containers import MAX_FILE
from understudy.conversation.prompt.preview import Preview, describe_lore
from understudy.errors import ConfigError, PersonaError
from understudy.platforms.web.api import Refused, answered, read_body, read_json

_LONGEST_TEXT = 8000


@dataclass(frozen=True, slots=True)
class PersonaActions:
    take: Callable[[bytes], Awaitable[str]]
    """Import a card; what came of it. Raises PersonaError and ConfigError."""
    known: Callable[[], Sequence[str]]
    """The keys of all personas."""
    try_lore: Callable[[str, str | None], Preview]
    """(text, persona's key)"""


class PersonaPages:
    def __init__(self, desk: PersonaActions) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        return [
            Route("/api/operator/personas", answered(self.names), methods=["GET"]),
            Route("/api/operator/personas", answered(self.take), methods=["POST"]),
            Route("/api/operator/lore", answered(self.try_lore), methods=["POST"]),
        ]

    async def names(self, _request: Request) -> Response:
        return JSONResponse({"personas": list(self._desk.known())})

    async def take(self, request: Request) -> Response:
        too_large = f"A card has at most {MAX_FILE // 1024**2} MB."
        card = await read_body(request, MAX_FILE, too_large)
        try:
            return JSONResponse({"said": await self._desk.take(card)})
        except PersonaError as error:
            raise Refused(400, str(error)) from error
        except ConfigError as error:
            raise Refused(409, f"The file is kept, but the old personas stay: {error}") from error

    async def try_lore(self, request: Request) -> Response:
        asked = await read_json(request)
        text, persona = asked.get("text"), asked.get("persona")
        if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST_TEXT:
            raise Refused(400, f"Type a text of up to {_LONGEST_TEXT} characters.")
        if persona and persona not in self._desk.known():
            raise Refused(404, "There is no such persona.")
        shown = self._desk.try_lore(text, str(persona) if persona else None)
        return JSONResponse(
            {
                "persona": shown.persona,
                "entries": describe_lore(shown.lore),
                "pieces": [asdict(piece) for piece in shown.pieces],
                "tokens": shown.tokens,
            }
        )
