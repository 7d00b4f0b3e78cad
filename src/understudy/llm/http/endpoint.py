"""HTTP/1.1 client for model servers: endpoints, their slots, and short answers read whole."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from understudy.errors import ConfigError, ErrorClass, Unreachable
from understudy.llm.addresses import is_local
from understudy.llm.client import Exchange
from understudy.llm.http.call import Call, ResponseReceiver
from understudy.llm.http.connector import Connector, Network, Origin, read_origin
from understudy.llm.http.pool import ConnectionPool
from understudy.llm.http.proxy import Proxy, basic, proxy_for
from understudy.llm.http.reader import Answer, AnswerReader

POOL_TIMEOUT_S = 1.0
MAX_IN_FLIGHT = 256
_PROBE_TIMEOUT_S = 5.0
_MAX_ANSWER_BYTES = 32 * 1024 * 1024
_STANDARD_HEADERS = {"User-Agent": "understudy", "Accept-Encoding": "identity"}
_OWN_HEADERS = ("content-length", "transfer-encoding")
_URL_CHARACTERS = "%/:?&=+,;@!$'()*[]~"


class HttpSessions:
    """The connections of the process; closed by `aclose`, which its owner calls.

    Endpoints of the same server, keep-alive class and proxy share a pool. No cookies, no
    redirects. Used from one event loop at a time.
    """

    def __init__(self, network: Network | None = None) -> None:
        self._network = network or Network()
        self._pools: dict[tuple[Origin, Proxy | None, float], ConnectionPool] = {}

    def pool(self, origin: Origin, proxy: Proxy | None, keepalive_s: float) -> ConnectionPool:
        key = (origin, proxy, keepalive_s)
        if key not in self._pools:
            connector = Connector(self._network, origin, proxy)
            self._pools[key] = ConnectionPool(connector, keepalive_s)
        return self._pools[key]

    async def aclose(self) -> None:
        for pool in list(self._pools.values()):
            await pool.aclose()
        await self._network.aclose()


@dataclass(frozen=True, slots=True)
class Pool:
    """How the connections to one server are made and kept."""

    connect_timeout_s: float
    keepalive_s: float
    in_flight: int = MAX_IN_FLIGHT


@dataclass(frozen=True, slots=True)
class _Target:
    """One page of the server, ready to be asked for."""

    pool: ConnectionPool
    head: bytes
    """The head of the request without Content-Length and the empty line."""


class Endpoint:
    """One server: where it is, what is sent along, and how many requests may be under way.

    Never retries an attempt. Sets no time limit but those for the pool and for connecting.
    Local addresses are never reached through a proxy.
    """

    def __init__(
        self,
        sessions: HttpSessions,
        base_url: str,
        *,
        headers: Mapping[str, str],
        pool: Pool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `ConfigError` for an address or a header that cannot be sent."""
        self.base_url = base_url
        self._sessions = sessions
        self._headers = _checked(headers)
        self._pool = pool
        self._clock = clock
        self._slots = _Slots(pool.in_flight, pool.connect_timeout_s)
        self._targets: dict[tuple[str, str], _Target] = {}
        self._pages: dict[str, _Target] = {}
        """Those that are posted to, by path."""
        self._target("POST", "")  # a wrong address is found now

    def send(self, path: str, body: bytes, exchange: Exchange, receiver: ResponseReceiver) -> Call:
        """POST `body`; the response goes to `receiver`, its facts into `exchange`.

        Where an idle connection exists the request is written before this returns; otherwise a
        connection is dialled, and where all slots are taken the call first waits up to 1 s for
        one (`pool_timeout`). Whatever fails reaches `receiver.failed`, never the caller, and
        never before this has returned. `path` follows `base_url`, or is a whole address.
        """
        target = self._pages.get(path)
        if target is None:
            target = self._pages[path] = self._target("POST", path)
        head = b"%bContent-Length: %d\r\n\r\n" % (target.head, len(body))
        call = Call(receiver, exchange, head, body, self._clock)
        slots = self._slots
        if slots.free:
            slots.free -= 1
            call.release_slot = slots.release
            target.pool.start(call, self._pool.connect_timeout_s)
        else:
            slots.wait(call, target.pool)
        return call

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Read one short answer whole, within 5 s: probes, token counts, aborts.

        Takes no slot. `path` may be a whole address. A question that met a stale connection is
        repeated once. Raises `Unreachable` and `BadReply` as `ResponseReceiver.failed` gets them,
        `first_token_timeout` after 5 s, and `response_too_large` past 32 MiB. No HEAD.
        """
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                try:
                    return await self._ask(method, path, body)
                except Unreachable as error:
                    if error.error_class is not ErrorClass.STALE_CONNECTION:
                        raise
                    return await self._ask(method, path, body)
        except TimeoutError:
            raise Unreachable(ErrorClass.FIRST_TOKEN_TIMEOUT) from None

    async def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        target = self._target(method, path)
        sized = body is not None or method == "POST"
        body = body or b""
        length = b"Content-Length: %d\r\n\r\n" % len(body) if sized else b"\r\n"
        reader = AnswerReader(_MAX_ANSWER_BYTES)
        call = Call(reader, Exchange(), target.head + length, body, self._clock)
        target.pool.start(call, self._pool.connect_timeout_s)
        try:
            return await reader.answer
        finally:
            call.close()

    def _target(self, method: str, path: str) -> _Target:
        target = self._targets.get((method, path))
        if target is None:
            url = path if "://" in path else self.base_url + path
            target = self._targets[method, path] = self._make_target(method, url)
        return target

    def _make_target(self, method: str, url: str) -> _Target:
        origin = read_origin(url)
        proxy = None
        if not is_local(self.base_url):
            proxy = proxy_for(origin.scheme, origin.host, origin.port)
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        target = quote((parts.path or "/") + query, _URL_CHARACTERS)
        standard = _STANDARD_HEADERS | {"Host": origin.authority}
        if parts.username is not None:
            standard["Authorization"] = basic(parts.username, parts.password)
        if proxy is not None and not origin.tls:
            target = f"http://{origin.authority}{target}"
            if proxy.authorization is not None:
                standard["Proxy-Authorization"] = proxy.authorization
        headers = _merged(standard, self._headers)
        lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
        pool = self._sessions.pool(origin, proxy, self._pool.keepalive_s)
        return _Target(pool, "".join(f"{text}\r\n" for text in lines).encode())


class _Slots:
    """How many calls may be under way; those beyond wait their turn, one second at most."""

    def __init__(self, slots: int, connect_timeout_s: float) -> None:
        self.free = slots
        self._connect_timeout_s = connect_timeout_s
        self._waiting: dict[Call, tuple[ConnectionPool, asyncio.TimerHandle]] = {}

    def wait(self, call: Call, pool: ConnectionPool) -> None:
        """Start the call once a slot is free."""
        call.holder = self
        timer = asyncio.get_running_loop().call_later(POOL_TIMEOUT_S, self._expire, call)
        self._waiting[call] = (pool, timer)

    def drop(self, call: Call) -> None:
        waiting = self._waiting.pop(call, None)
        if waiting is not None:
            waiting[1].cancel()

    def set_paused(self, *, paused: bool) -> None:
        """The connection asks the call when it has it."""

    def release(self) -> None:
        if not self._waiting:
            self.free += 1
            return
        call = next(iter(self._waiting))
        pool, timer = self._waiting.pop(call)
        timer.cancel()
        call.release_slot = self.release
        pool.start(call, self._connect_timeout_s)

    def _expire(self, call: Call) -> None:
        call.fail(Unreachable(ErrorClass.POOL_TIMEOUT))


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Raises `ConfigError`; the value may be a key, so only the name is shown."""
    for name, value in headers.items():
        if not name or not name.isascii() or not name.isprintable() or set(name) & set(" :"):
            raise ConfigError(f"{name!r} is not the name of a header")
        if name.lower() in _OWN_HEADERS:
            raise ConfigError(f"the header {name!r} cannot be configured")
        if any(ord(c) < 32 and c != "\t" for c in value):
            raise ConfigError(f"the header {name!r} has a line break or a control character")
    return dict(headers)


def _merged(standard: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Put standard headers under the given ones, whatever the case of their names."""
    names = {name.lower() for name in given}
    return {n: v for n, v in standard.items() if n.lower() not in names} | dict(given)
