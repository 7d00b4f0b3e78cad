"""Coming in: by one-time link or by token, and out again."""

from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from understudy.platforms.web.api import Refused, read_body
from understudy.platforms.web.auth import SESSION_COOKIE, SESSION_S, Access, Level
from understudy.platforms.web.templates import PageContext, page

_MAX_FORM = 4096


def is_https(request: Request) -> bool:
    forwarded = request.headers.get("x-forwarded-proto", "")
    return request.url.scheme == "https" or forwarded.split(",")[0].strip() == "https"


class Login:
    def __init__(self, access: Access, face: Callable[[], PageContext]) -> None:
        self._access = access
        self._face = face

    def routes(self) -> list[Route]:
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.enter, methods=["POST"]),
            Route("/logout", self.leave, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        code = request.query_params.get("code")
        if code is None:
            return self._form("")
        level = self._access.redeem(code)
        if level is Level.STRANGER:
            return self._form("That link was used already or is too old. Type your token instead.")
        return self._welcome(request, level)

    async def enter(self, request: Request) -> Response:
        if self._access.too_many_tries():
            return self._form("Too many tries. Wait a minute, please.", status=429)
        level = self._access.check_token(await _typed_token(request))
        if level is Level.STRANGER:
            self._access.note_failure()
            return self._form("That token is not known here.", status=403)
        return self._welcome(request, level)

    async def leave(self, _request: Request) -> Response:
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
        return response

    def _welcome(self, request: Request, level: Level) -> Response:
        # A page, not a redirect: after a link from elsewhere a redirect would still count as
        # cross-site and go out without the strict cookie it has just set.
        response = page("welcome", name=self._face().name)
        response.set_cookie(
            SESSION_COOKIE,
            self._access.session(level),
            max_age=SESSION_S,
            path="/",
            httponly=True,
            samesite="strict",
            secure=is_https(request),
        )
        return response

    def _form(self, message: str, *, status: int = 200) -> Response:
        return page("login", status=status, name=self._face().name, message=message)


async def _typed_token(request: Request) -> str:
    try:
        body = await read_body(request, _MAX_FORM)
    except Refused:
        return ""
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
