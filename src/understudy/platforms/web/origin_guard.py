"""Checks Host and Origin of every request and adds security headers to every response."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from understudy.network import host_name, is_loopback

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": browsers then send "Origin: null" with the login form too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def _is_address(name: str) -> bool:
    return ":" in name or (name.count(".") == 3 and name.replace(".", "").isdigit())


def is_known_host(host: str, allowed: Sequence[str]) -> bool:
    """Unknown names are refused: a foreign site could let its own name resolve to this server
    (DNS rebinding). An address cannot be rebound."""
    name = host_name(host)
    return is_loopback(name) or _is_address(name) or name in {host.lower() for host in allowed}


def is_same_origin(headers: Headers) -> bool:
    """Whether a changing request comes from this site's pages. Programs send neither header."""
    origin = headers.get("origin")
    if origin is not None:
        return _net_location(origin) == headers.get("host", "").lower()
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _net_location(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


class OriginGuard:
    """ASGI middleware; a refusal names the setting to change."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str] = ()) -> None:
        self._app = app
        self._allowed = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not is_known_host(host, self._allowed):
            return PlainTextResponse(
                f"The host name {host_name(host)[:80]!r} is not allowed. "
                "To allow it, add it to web.allowed_hosts in the configuration.\n",
                status_code=421,
            )
        if (scope["method"] not in _SAFE_METHODS and not is_same_origin(headers)) or (
            scope["path"].startswith("/api/") and headers.get("sec-fetch-site") == "cross-site"
        ):
            return PlainTextResponse("This request came from another site.\n", status_code=403)
        return None
