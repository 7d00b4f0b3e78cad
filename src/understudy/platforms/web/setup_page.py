"""The page `/setup`: the questions of `understudy setup` in a browser.

Served instead of the other pages while no model server is usable.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from understudy.network import is_direct
from understudy.platforms.web.api import ApiError, Endpoint, read_json, with_json_errors
from understudy.platforms.web.auth import Access, Level
from understudy.platforms.web.login import Login, level_of, peer_of
from understudy.platforms.web.origin_guard import OriginGuard
from understudy.platforms.web.templates import ASSETS, PageContext, page

_ONLY_HERE = (
    "The setup answers only to browsers on the machine that the bot runs on. From elsewhere, "
    "forward the port (ssh -L), or run `understudy setup` there.\n"
)
_MAX_BODY = 20_000


@dataclass(frozen=True, slots=True)
class SetupView:
    """What the form shows."""

    name: str
    servers: tuple[dict[str, str], ...]
    """`address` and `label` of each server that runs here and is not configured."""
    openrouter_key_set: bool
    discord_token_set: bool
    own_model: bool
    """Whether a built-in model can be offered."""
    free_models: str


@dataclass(frozen=True, slots=True)
class SetupForm:
    """What a person entered."""

    name: str
    servers: tuple[str, ...]
    """Addresses."""
    openrouter_key: str = field(repr=False)
    discord_token: str = field(repr=False)
    mentions_only: bool
    own_model: bool


@dataclass(frozen=True, slots=True)
class Tested:
    accepted: bool | None
    text: str
    address: str = ""
    """Of a server, as it will be written."""
    invite: str = ""
    mentions_only: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    written: tuple[str, ...]
    usable: bool
    """Whether a server is usable now; then the bot starts."""
    reply: str = ""
    """The first reply, with its route."""
    route: str = ""


@dataclass(frozen=True, slots=True)
class SetupActions:
    """Each may raise ApiError with a text for the person."""

    view: Callable[[], Awaitable[SetupView]]
    test_server: Callable[[str], Awaitable[Tested]]
    test_openrouter_key: Callable[[str], Awaitable[Tested]]
    test_discord_token: Callable[[str], Awaitable[Tested]]
    save: Callable[[SetupForm], Awaitable[Saved]]


def build_setup_site(
    access: Access, name: str, actions: SetupActions, allowed_hosts: tuple[str, ...]
) -> Starlette:
    """The site: login, `/setup` for the operator on this machine, and health pages."""

    def guarded(path: str, call: Endpoint, methods: list[str]) -> Route:
        return Route(path, _operator_here(access, call), methods=methods)

    api = _SetupApi(actions)

    async def show(_request: Request) -> Response:
        return page("setup", name=name)

    return Starlette(
        routes=[
            Route("/", _to_setup),
            *Login(access, lambda: PageContext(name), "/setup").routes(),
            guarded("/setup", show, ["GET"]),
            guarded("/api/setup", with_json_errors(api.view), ["GET"]),
            guarded("/api/setup", with_json_errors(api.save), ["POST"]),
            guarded("/api/setup/test", with_json_errors(api.test), ["POST"]),
            Route("/healthz", _healthz),
            Route("/readyz", _not_ready),
            Mount("/static", StaticFiles(directory=ASSETS)),
        ],
        middleware=[Middleware(OriginGuard, allowed_hosts=allowed_hosts)],
    )


class _SetupApi:
    def __init__(self, actions: SetupActions) -> None:
        self._actions = actions

    async def view(self, _request: Request) -> Response:
        return JSONResponse(asdict(await self._actions.view()))

    async def test(self, request: Request) -> Response:
        """Test one value: `{"kind": "openrouter" | "discord" | "server", "value": text}`."""
        fields = await read_json(request, _MAX_BODY)
        tests = {
            "openrouter": self._actions.test_openrouter_key,
            "discord": self._actions.test_discord_token,
            "server": self._actions.test_server,
        }
        test = tests.get(str(fields.get("kind")))
        value = _line(fields, "value")
        if test is None or not value:
            raise ApiError(400, "Enter a value to test.")
        return JSONResponse(asdict(await test(value)))

    async def save(self, request: Request) -> Response:
        fields = await read_json(request, _MAX_BODY)
        servers = fields.get("servers")
        form = SetupForm(
            name=_line(fields, "name"),
            servers=tuple(str(one) for one in servers) if isinstance(servers, list) else (),
            openrouter_key=_line(fields, "openrouter_key"),
            discord_token=_line(fields, "discord_token"),
            mentions_only=fields.get("mentions_only") is True,
            own_model=fields.get("own_model") is True,
        )
        return JSONResponse(asdict(await self._actions.save(form)))


def _line(fields: dict[str, object], name: str) -> str:
    value = fields.get(name, "")
    text = value.strip() if isinstance(value, str) else ""
    if any(character in text for character in "\r\n\0"):
        raise ApiError(400, f"{name} contains a line break.")
    return text


def _operator_here(access: Access, call: Endpoint) -> Endpoint:
    async def checked(request: Request) -> Response:
        if not is_direct(peer_of(request), request.headers):
            return PlainTextResponse(_ONLY_HERE, status_code=403)
        if level_of(access, request) is Level.OPERATOR:
            return await call(request)
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": "Log in first.", "login": "/login"}, status_code=401)
        return RedirectResponse("/login?next=/setup", status_code=303)

    return checked


async def _to_setup(_request: Request) -> Response:
    return RedirectResponse("/setup", status_code=303)


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _not_ready(_request: Request) -> Response:
    return PlainTextResponse("no model server is usable: open /setup\n", status_code=503)
