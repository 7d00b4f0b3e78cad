"""The web site as one ASGI app: pages, their APIs, and the access level of each route."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from understudy.network import is_direct
from understudy.platforms.web.auth import Access, Level
from understudy.platforms.web.chat import BROWSER_COOKIE, cookie_of, new_browser_id
from understudy.platforms.web.login import Login, is_https, level_of, peer_of
from understudy.platforms.web.origin_guard import OriginGuard
from understudy.platforms.web.templates import ASSETS, PageContext, page

BROWSER_S = 400 * 24 * 3600

Endpoint = Callable[[Request], Awaitable[Response]]
ReadPage = Callable[[], tuple[bytes, str]]
"""A page for monitoring: its bytes and their media type."""


@dataclass(frozen=True, slots=True)
class SiteParts:
    """The routes and settings of the site."""

    access: Access
    page_context: Callable[[], PageContext]
    chat: Sequence[Route]
    operator: Sequence[Route] = ()
    monitoring_pages: Sequence[tuple[str, ReadPage]] = ()
    """Paths that are free on loopback and need the operator's token from elsewhere."""
    ready: Callable[[], bool] = lambda: True
    allowed_hosts: Sequence[str] = ()


def build_site(parts: SiteParts) -> Starlette:
    chat = [_require(parts.access, Level.CHAT, route) for route in parts.chat]
    operator = [_require(parts.access, Level.OPERATOR, route) for route in parts.operator]
    monitoring = [
        Route(path, _monitoring_page(parts.access, read)) for path, read in parts.monitoring_pages
    ]
    routes: list[BaseRoute] = [
        Route("/", _chat_page(parts)),
        *Login(parts.access, parts.page_context, "/operator" if operator else "/").routes(),
        *chat,
        *operator,
        *monitoring,
        Route("/healthz", _healthz),
        Route("/readyz", _readyz(parts.ready)),
        Mount("/static", StaticFiles(directory=ASSETS)),
    ]
    guard = Middleware(OriginGuard, allowed_hosts=tuple(parts.allowed_hosts))
    return Starlette(routes=routes, middleware=[guard])


def _require(access: Access, needed: Level, route: Route) -> Route:
    inner: Endpoint = route.endpoint
    is_api = route.path.startswith("/api/")

    async def checked(request: Request) -> Response:
        level = level_of(access, request)
        if level >= needed:
            # Read by the chat: rate limits do not apply to the operator.
            request.state.is_operator = level is Level.OPERATOR or access.is_free(
                peer_of(request), request.headers
            )
            return await inner(request)
        if is_api:
            return JSONResponse({"error": "Log in first.", "login": "/login"}, status_code=401)
        return RedirectResponse(f"/login?next={route.path}", status_code=303)

    methods = sorted(route.methods or {"GET"})
    return Route(route.path, checked, methods=methods)


def _chat_page(parts: SiteParts) -> Endpoint:
    async def chat_page(request: Request) -> Response:
        level = level_of(parts.access, request)
        if level < Level.CHAT:
            return RedirectResponse("/login", status_code=303)
        context = parts.page_context()
        response = page(
            "chat",
            name=context.name,
            operator="yes" if level is Level.OPERATOR and parts.operator else "",
            max_images=str(context.max_images),
            max_files=str(context.max_files),
            proposes="yes" if context.proposes else "",
        )
        response.set_cookie(
            BROWSER_COOKIE,
            cookie_of(request) or new_browser_id(),
            max_age=BROWSER_S,
            path="/",
            httponly=True,
            samesite="strict",
            secure=is_https(request),
        )
        return response

    return chat_page


def _monitoring_page(access: Access, read: ReadPage) -> Endpoint:
    async def monitoring_page(request: Request) -> Response:
        direct = is_direct(peer_of(request), request.headers)
        if not direct and level_of(access, request) < Level.OPERATOR:
            return PlainTextResponse("Send web.token as a bearer token.\n", status_code=401)
        body, media_type = read()
        return Response(body, media_type=media_type)

    return monitoring_page


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _readyz(ready: Callable[[], bool]) -> Endpoint:
    async def readyz(_request: Request) -> Response:
        if ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("no model server is usable\n", status_code=503)

    return readyz
