"""Login by one-time link or by token, and logout."""

from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from understudy.errors import StorageError
from understudy.platforms.web.api import ApiError, read_body
from understudy.platforms.web.auth import SESSION_COOKIE, SESSION_S, Access, Level
from understudy.platforms.web.templates import PageContext, page

_MAX_FORM = 4096
_EXPIRED = (
    "This link has expired. Enter the token: the value of web.token or UNDERSTUDY_WEB_TOKEN, "
    "else the content of understudy.db-web-token."
)

_NOT_NOW = "The database cannot be used at the moment. Open the link again."


def is_https(request: Request) -> bool:
    forwarded = request.headers.get("x-forwarded-proto", "")
    return request.url.scheme == "https" or forwarded.split(",")[0].strip() == "https"


class Login:
    """`operator_page` is the path that a login link opens."""

    def __init__(
        self, access: Access, page_context: Callable[[], PageContext], operator_page: str
    ) -> None:
        self._access = access
        self._page_context = page_context
        self._operator_page = operator_page

    def routes(self) -> list[Route]:
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        code = request.query_params.get("code")
        target = self._target(request.query_params.get("next", ""))
        if code is None:
            return self._form("", target)
        try:
            level = await self._access.redeem(code)
        except StorageError:
            return self._form(_NOT_NOW, self._operator_page, status=503)
        if level is Level.ANONYMOUS:
            if level_of(self._access, request) is Level.OPERATOR:
                return RedirectResponse(self._operator_page, status_code=303)
            return self._form(_EXPIRED, self._operator_page, status=403)
        return self._welcome(request, level, self._operator_page)

    async def log_in(self, request: Request) -> Response:
        form = await _form_of(request)
        target = self._target(form.get("next", ""))
        level = self._access.check_token(form.get("token", "").strip())
        if level is Level.ANONYMOUS:
            return self._form("Wrong token.", target, status=403)
        return self._welcome(request, level, target if level is Level.OPERATOR else "/")

    async def log_out(self, _request: Request) -> Response:
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
        return response

    def _target(self, path: str) -> str:
        """A path of this site: others in the address are ignored."""
        return path if path == self._operator_page else "/"

    def _welcome(self, request: Request, level: Level, target: str) -> Response:
        # A page instead of a redirect: after a link on another site, browsers treat the redirect
        # as cross-site and send it without the SameSite=Strict cookie that was just set.
        response = page("welcome", name=self._page_context().name, target=target)
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

    def _form(self, message: str, target: str, *, status: int = 200) -> Response:
        name = self._page_context().name
        return page("login", status=status, name=name, message=message, target=target)


def level_of(access: Access, request: Request) -> Level:
    return access.level_of(peer_of(request), request.headers, request.cookies)


def peer_of(request: Request) -> str:
    return request.client.host if request.client else ""


async def _form_of(request: Request) -> dict[str, str]:
    try:
        body = await read_body(request, _MAX_FORM)
    except ApiError:
        return {}
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
