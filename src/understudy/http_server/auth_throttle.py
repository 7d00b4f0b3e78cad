"""An ASGI app whose tokens, keys and login codes can be guessed only slowly from one address."""

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Container
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

FAILURES = 10
WINDOW_S = 60.0
_MAX_ADDRESSES = 10_000
_CREDENTIALS = frozenset((b"authorization", b"x-api-key"))


def failures_of_one(processes: int) -> int:
    """How many wrong credentials one of several processes accepts that share a port."""
    return max(1, FAILURES // processes)


Refuse = Callable[[Send, int], Awaitable[None]]
"""Sends 429; the second argument is Retry-After in seconds."""


class AuthFailures:
    """Counts wrong credentials by address."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, failures: int = FAILURES
    ) -> None:
        self._clock = clock
        self._most = failures
        self.times: OrderedDict[str, deque[float]] = OrderedDict()
        """When each address sent wrong ones; empty where none did."""

    def wait_s(self, peer: str) -> float:
        """Return for how long requests with credentials from this address are refused."""
        times = self.times.get(_network(peer))
        if times is None or len(times) < self._most:
            return 0.0
        return max(times[0] + WINDOW_S - self._clock(), 0.0)

    def add(self, peer: str) -> None:
        address = _network(peer)
        times = self.times.pop(address, None) or deque(maxlen=self._most)
        times.append(self._clock())
        self.times[address] = times
        if len(self.times) > _MAX_ADDRESSES:
            self.times.popitem(last=False)


class AuthThrottle:
    """Refuses requests with credentials from an address after `failures` wrong ones in
    `WINDOW_S`, the right ones too: else a guess would still be tried.

    `failed` are the statuses that show a wrong credential. Other addresses, and sessions that
    are logged in by cookie, are not affected.
    """

    def __init__(
        self,
        app: ASGIApp,
        refuse: Refuse,
        *,
        failed: Container[int] = (401,),
        login_path: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        failures: int = FAILURES,
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._failed = failed
        self._login_path = login_path
        self._failures = AuthFailures(clock, failures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._has_credentials(scope):
            await self._app(scope, receive, send)
            return
        peer = scope["client"][0] if scope["client"] else ""
        wait_s = self._failures.wait_s(peer)
        if wait_s > 0:
            await self._refuse(send, math.ceil(wait_s))
            return

        async def noting_failure(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in self._failed:
                self._failures.add(peer)
            await send(message)

        await self._app(scope, receive, noting_failure)

    def _has_credentials(self, scope: Scope) -> bool:
        if scope["path"] == self._login_path:
            return scope["method"] == "POST" or b"code=" in scope["query_string"]
        return any(name in _CREDENTIALS for name, _ in scope["headers"])


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    """The address; of IPv6 the network of a subscriber, who can use all of its addresses."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
