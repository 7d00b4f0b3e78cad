"""Personas on the operator's page: importing cards and previewing lore."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.conversation.personas.containers import MAX_FILE
from understudy.conversation.personas.importing import ImportOptions
from understudy.conversation.prompt.preview import Preview, describe_lore
from understudy.errors import ConfigError, PersonaError, PersonaExists
from understudy.platforms.web.api import ApiError, read_body, read_json, with_json_errors

_MAX_TEXT = 8000
_MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class PersonaActions:
    import_card: Callable[[bytes, ImportOptions], Awaitable[str]]
    """Import a card and return the result as a sentence. Raises PersonaError and ConfigError."""
    persona_keys: Callable[[], Sequence[str]]
    """The keys of all personas."""
    preview_lore: Callable[[str, str | None], Preview]
    """(text, persona's key)"""


class PersonaPages:
    def __init__(self, actions: PersonaActions) -> None:
        self._actions = actions

    def routes(self) -> list[Route]:
        return [
            Route("/api/operator/personas", with_json_errors(self.names), methods=["GET"]),
            Route("/api/operator/personas", with_json_errors(self.import_card), methods=["POST"]),
            Route("/api/operator/lore", with_json_errors(self.preview_lore), methods=["POST"]),
        ]

    async def names(self, _request: Request) -> Response:
        return JSONResponse({"personas": list(self._actions.persona_keys())})

    async def import_card(self, request: Request) -> Response:
        too_large = f"A card has at most {MAX_FILE // 1024**2} MB."
        card = await read_body(request, MAX_FILE, too_large)
        existing, name = request.query_params.get("existing"), request.query_params.get("name", "")
        options = ImportOptions(
            file_name=name[:_MAX_NAME], replace=existing == "replace", number=existing == "number"
        )
        try:
            return JSONResponse({"said": await self._actions.import_card(card, options)})
        except PersonaExists as error:
            found = {"error": str(error), "exists": error.key, "free_key": error.free_key}
            return JSONResponse(found, status_code=409)
        except PersonaError as error:
            raise ApiError(400, str(error)) from error
        except ConfigError as error:
            raise ApiError(
                409, f"The file was saved, but the personas could not be reloaded: {error}"
            ) from error

    async def preview_lore(self, request: Request) -> Response:
        fields = await read_json(request)
        text, persona = fields.get("text"), fields.get("persona")
        if not isinstance(text, str) or not text.strip() or len(text) > _MAX_TEXT:
            raise ApiError(400, f"Enter a text of up to {_MAX_TEXT} characters.")
        if persona and persona not in self._actions.persona_keys():
            raise ApiError(404, "There is no such persona.")
        preview = self._actions.preview_lore(text, str(persona) if persona else None)
        return JSONResponse(
            {
                "persona": preview.persona,
                "entries": describe_lore(preview.lore),
                "pieces": [asdict(piece) for piece in preview.pieces],
                "tokens": preview.tokens,
            }
        )
