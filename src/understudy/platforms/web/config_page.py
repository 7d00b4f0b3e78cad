"""Editing the configuration on the operator's page."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.config.load import ConfigMistakes
from understudy.errors import ConfigError
from understudy.platforms.web.api import ApiError, json_routes, read_json
from understudy.platforms.web.audit import audit

_MAX_TEXT = 500_000
_MAX_BODY = 4 * _MAX_TEXT


@dataclass(frozen=True, slots=True)
class ConfigText:
    text: str
    """With secrets masked."""
    digest: str
    locked: str
    """Why it cannot be saved; empty where it can."""


@dataclass(frozen=True, slots=True)
class ConfigActions:
    read: Callable[[], Awaitable[ConfigText]]
    """Raises ConfigError."""
    save: Callable[[str, str], Awaitable[str]]
    """(text, digest of the text it was made from). Raises ConfigMistakes and ConfigError."""


class ConfigPage:
    def __init__(self, actions: ConfigActions) -> None:
        self._actions = actions

    def routes(self) -> list[Route]:
        path = "/api/operator/config"
        return json_routes(
            ("GET", path, self.show),
            ("POST", path, self.save),
        )

    async def show(self, _request: Request) -> Response:
        try:
            found = await self._actions.read()
        except ConfigError as error:
            raise ApiError(409, str(error)) from error
        content = {"text": found.text, "digest": found.digest, "locked": found.locked}
        return JSONResponse(content, headers={"Cache-Control": "no-store"})

    async def save(self, request: Request) -> Response:
        fields = await read_json(request, _MAX_BODY)
        text, digest = fields.get("text"), fields.get("digest")
        if not isinstance(text, str) or not isinstance(digest, str) or len(text) > _MAX_TEXT:
            raise ApiError(400, f"A configuration has at most {_MAX_TEXT} characters.")
        try:
            said = await self._actions.save(text, digest)
        except ConfigMistakes as error:
            mistakes = [{"line": one.line, "text": str(one)} for one in error.mistakes]
            message = "Not saved: the text has mistakes."
            return JSONResponse({"error": message, "mistakes": mistakes}, status_code=422)
        except ConfigError as error:
            raise ApiError(409, f"Not saved: {error}") from error
        except OSError as error:
            raise ApiError(409, f"Not saved: {error.strerror or 'the file failed'}.") from error
        audit(request, "config_saved")
        return JSONResponse({"said": said})
