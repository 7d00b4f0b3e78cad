"""Login by one-time link or by token, and logout."""

from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from understudy.platforms.web.api import ApiError, read_body
from understudy.platforms.web.auth import SESSION_COOKIE, SESSION_S, Access, Level
from understudy.platforms.web.templates import PageContext, page

_MAX_FORM = 4096
_EXPIRED = (
    "This link has expired. Enter the token: the value of web.token or UNDERSTUDY_WEB_TOKEN, "
    "else the content of understudy.db-web-token."
)


def is_https(request: Request) -> bool:
    forwarded = request.headers.get("x-forwarded-proto", "")
    return request.url.scheme == "https" or forwarded.split(",")[0].strip() == "https"


class Login:
    def __init__(self, access: Access, page_context: Callable[[], PageContext]) -> None:
        self._access = access
        self._page_context = page_context

    def routes(self) -> list[Route]:
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        code = request.query_params.get("code")
        if code is None:
            return self._form("")
        level = self._access.redeem(code)
        if level is Level.ANONYMOUS:
            return self._form(_EXPIRED)
        return self._welcome(request, level)

    async def log_in(self, request: Request) -> Response:
        if self._access.is_throttled():
            return self._form("Too many attempts. Try again in a minute.", status=429)
        level = self._access.check_token(await _typed_token(request))
        if level is Level.ANONYMOUS:
            self._access.record_failure()
            return self._form("Wrong token.", status=403)
        return self._welcome(request, level)

    async def log_out(self, _request: Request) -> Response:
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
        return response

    def _welcome(self, request: Request, level: Level) -> Response:
        # A page instead of a redirect: after a link on another site, browsers treat the redirect
        # as cross-site and send it without the SameSite=Strict cookie that was just set.
        response = page("welcome", name=self._page_context().name)
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
        return page("login", status=status, name=self._page_context().name, message=message)


async def _typed_token(request: Request) -> str:
    try:
        body = await read_body(request, _MAX_FORM)
    except ApiError:
        return ""
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
