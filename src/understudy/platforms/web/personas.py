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
from understudy.platforms.web.api import ApiError, json_routes, read_body, read_json
from understudy.platforms.web.audit import audit

_MAX_TEXT = 8000
_MAX_NAME = 100
_UNKNOWN = "There is no such persona."


@dataclass(frozen=True, slots=True)
class PersonaView:
    key: str
    name: str
    is_card: bool
    books: int
    is_default: bool
    is_named: bool
    """The configuration names it, so it cannot be deleted."""


@dataclass(frozen=True, slots=True)
class PersonaActions:
    import_card: Callable[[bytes, ImportOptions], Awaitable[str]]
    """Import a card and return the result as a sentence. Raises PersonaError and ConfigError."""
    persona_keys: Callable[[], Sequence[str]]
    """The keys of all personas."""
    preview_lore: Callable[[str, str | None], Preview]
    """(text, persona's key)"""
    views: Callable[[], Sequence[PersonaView]]
    warnings: Callable[[], Sequence[str]]
    """Files that cannot be used, and why."""
    set_default: Callable[[str | None], Awaitable[str]]
    """Choose the persona of places that name none; None is the built-in one. Raises ConfigError."""
    delete: Callable[[str], Awaitable[str]]
    """Raises ConfigError and PersonaError."""


class PersonaPages:
    def __init__(self, actions: PersonaActions) -> None:
        self._actions = actions

    def routes(self) -> list[Route]:
        return json_routes(
            ("GET", "/api/operator/personas", self.names),
            ("POST", "/api/operator/personas", self.import_card),
            ("POST", "/api/operator/personas/default", self.choose),
            ("POST", "/api/operator/personas/delete", self.delete),
            ("POST", "/api/operator/personas/preview", self.preview),
            ("POST", "/api/operator/lore", self.preview_lore),
        )

    async def names(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "personas": list(self._actions.persona_keys()),
                "details": [asdict(view) for view in self._actions.views()],
                "warnings": list(self._actions.warnings()),
            }
        )

    async def import_card(self, request: Request) -> Response:
        too_large = f"A card has at most {MAX_FILE // 1024**2} MB."
        card = await read_body(request, MAX_FILE, too_large)
        existing, name = request.query_params.get("existing"), request.query_params.get("name", "")
        options = ImportOptions(
            file_name=name[:_MAX_NAME], replace=existing == "replace", number=existing == "number"
        )
        try:
            said = await self._actions.import_card(card, options)
            audit(request, "persona_imported", options.file_name)
            return JSONResponse({"said": said})
        except PersonaExists as error:
            found = {"error": str(error), "exists": error.key, "free_key": error.free_key}
            return JSONResponse(found, status_code=409)
        except PersonaError as error:
            raise ApiError(400, str(error)) from error
        except ConfigError as error:
            raise ApiError(
                409, f"The file was saved, but the personas could not be reloaded: {error}"
            ) from error

    async def choose(self, request: Request) -> Response:
        key = (await read_json(request)).get("persona")
        if key is not None and key not in self._actions.persona_keys():
            raise ApiError(404, _UNKNOWN)
        try:
            said = await self._actions.set_default(str(key) if key is not None else None)
        except ConfigError as error:
            raise ApiError(409, str(error)) from error
        except OSError as error:
            raise ApiError(409, error.strerror or "The file cannot be written.") from error
        audit(request, "persona_default", str(key or ""))
        return JSONResponse({"said": said})

    async def delete(self, request: Request) -> Response:
        key = await self._key(request)
        try:
            said = await self._actions.delete(key)
        except (ConfigError, PersonaError) as error:
            raise ApiError(409, str(error)) from error
        audit(request, "persona_deleted", key)
        return JSONResponse({"said": said})

    async def preview(self, request: Request) -> Response:
        """The fixed prompt of a persona: no message, so no lore that a message names."""
        return _preview_json(self._actions.preview_lore("", await self._key(request)))

    async def _key(self, request: Request) -> str:
        key = (await read_json(request)).get("persona")
        if not isinstance(key, str) or key not in self._actions.persona_keys():
            raise ApiError(404, _UNKNOWN)
        return key

    async def preview_lore(self, request: Request) -> Response:
        fields = await read_json(request)
        text, persona = fields.get("text"), fields.get("persona")
        if not isinstance(text, str) or not text.strip() or len(text) > _MAX_TEXT:
            raise ApiError(400, f"Enter a text of up to {_MAX_TEXT} characters.")
        if persona and persona not in self._actions.persona_keys():
            raise ApiError(404, _UNKNOWN)
        preview = self._actions.preview_lore(text, str(persona) if persona else None)
        return _preview_json(preview)


def _preview_json(preview: Preview) -> Response:
    return JSONResponse(
        {
            "persona": preview.persona,
            "entries": describe_lore(preview.lore),
            "pieces": [asdict(piece) for piece in preview.pieces if piece.text],
            "tokens": preview.tokens,
        }
    )
