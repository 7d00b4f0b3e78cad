"""An ASGI app with limits on event streams: they hold their connections for hours."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.types import ASGIApp, Receive, Scope, Send

from understudy.http_server.refusal import refuse

_RETRY_AFTER_S = 30


@dataclass(frozen=True, slots=True)
class StreamLimits:
    per_browser: int
    """By its cookie."""
    per_address: int
    total: int

    @staticmethod
    def within(connections: int) -> "StreamLimits":
        """A quarter of the connections stays free for requests that end soon; half of the streams
        for other addresses."""
        total = max(4, connections * 3 // 4)
        return StreamLimits(per_browser=8, per_address=max(2, total // 2), total=total)


class LimitedStreams:
    """Answers 429 to a request for an event stream past the limits.

    `paths` are those of event streams that anybody with a place on the page can open.
    """

    def __init__(
        self, app: ASGIApp, limits: StreamLimits, *, cookie: str, paths: re.Pattern[str]
    ) -> None:
        self._app = app
        self._limits = limits
        self._cookie = cookie
        self._paths = paths
        self._browsers: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._paths.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        address = scope["client"][0] if scope["client"] else ""
        browser = _cookie(scope["headers"], self._cookie)
        if self._is_full(address, browser):
            await refuse(send, "Too many pages are open. Close one.", _RETRY_AFTER_S)
            return
        self._browsers[browser] += 1
        self._addresses[address] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            _decrement(self._browsers, browser)
            _decrement(self._addresses, address)

    def _is_full(self, address: str, browser: str) -> bool:
        return (
            self._browsers[browser] >= self._limits.per_browser
            or self._addresses[address] >= self._limits.per_address
            or self._addresses.total() >= self._limits.total
        )


def _decrement(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]


def _cookie(headers: Iterable[tuple[bytes, bytes]], name: str) -> str:
    for header, value in headers:
        if header == b"cookie":
            try:
                cookies = SimpleCookie(value.decode("latin-1"))
            except CookieError:
                continue
            if name in cookies:
                return cookies[name].value
    return ""
