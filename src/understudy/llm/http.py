"""The one HTTP helper: shared sessions, bounded pools, and transport trouble → our errors."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from weakref import WeakSet

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from understudy.errors import BadReply, ErrorClass, ProviderError, Unreachable
from understudy.llm.addresses import is_local
from understudy.llm.client import Exchange, Phase

POOL_TIMEOUT_S = 1.0
MAX_IN_FLIGHT = 256
_PROBE_TIMEOUT_S = 5.0
_MAX_ANSWER_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Dial:
    """Whoever waits for a connection."""

    exchange: Exchange
    started: float
    clock: Callable[[], float]

    def connected(self, *, reused: bool) -> None:
        self.exchange.connect_s = self.clock() - self.started
        self.exchange.reused_connection = reused
        self.exchange.phase = Phase.HEADERS


_dialling: ContextVar[_Dial] = ContextVar("dialling")


class _Connector(aiohttp.TCPConnector):
    """Tells who waits for a connection when there is one, and whether it was used before.

    aiohttp's own tracing tells it too, at a tenth of what a whole request costs.
    """

    def __init__(self, *, limit: int, keepalive_timeout: float) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout)
        self._used: WeakSet[object] = WeakSet()
        self._doubted: WeakSet[object] = WeakSet()

    def doubt(self) -> None:
        """One connection turned out to be forgotten at its other end: trust none made before."""
        self._doubted |= self._used

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own name
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        while connection.protocol in self._doubted:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        _dialling.get().connected(reused=connection.protocol in self._used)
        self._used.add(connection.protocol)
        return connection


class HttpSessions:
    """The aiohttp sessions of the process, opened on first use; whoever made it closes it.

    One session per keep-alive class, so that no connection is reused that its server has already
    given up. No cookies, no redirects, proxies as the environment says.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[float, bool], aiohttp.ClientSession] = {}

    def session(self, keepalive_s: float, *, proxied: bool) -> aiohttp.ClientSession:
        key = (keepalive_s, proxied)
        if key not in self._open:
            self._open[key] = aiohttp.ClientSession(
                connector=_Connector(limit=0, keepalive_timeout=keepalive_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=proxied,
                headers={hdrs.USER_AGENT: "understudy", hdrs.ACCEPT_ENCODING: "identity"},
            )
        return self._open[key]

    async def aclose(self) -> None:
        sessions = list(self._open.values())
        self._open.clear()
        for session in sessions:
            await session.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """A short answer read to its end."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Pool:
    """How the connections to one server are made and kept."""

    connect_timeout_s: float
    keepalive_s: float
    in_flight: int = MAX_IN_FLIGHT


class Endpoint:
    """One server: where it is, what is sent along, and how many requests may be under way.

    Raises `Unreachable` for everything the network does, `BadReply` for an answer that is no HTTP
    or a redirect. Never retries. Sets no time limit but those for the pool and for connecting.
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
        self.base_url = base_url
        self._sessions = sessions
        self._headers = dict(headers)
        self._keepalive_s = pool.keepalive_s
        self._proxied = not is_local(base_url)
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=pool.connect_timeout_s, ceil_threshold=1e9
        )
        self._clock = clock
        self._slots = asyncio.Semaphore(pool.in_flight)
        self._urls: dict[str, URL] = {}

    async def post(self, path: str, body: bytes, exchange: Exchange) -> aiohttp.ClientResponse:
        """Send `body` and return the response with its head read, filling in `exchange`.

        Whoever gets it gives it back with `end`.
        """
        started = self._clock()
        await self._take_slot()
        _dialling.set(_Dial(exchange, started, self._clock))
        try:
            with transport_errors(exchange):
                response = await self._session().post(
                    self._url(path),
                    data=body,
                    headers=self._headers,
                    timeout=self._timeout,
                    allow_redirects=False,
                )
        except BaseException as error:
            self._slots.release()
            self._learn_from(error)
            raise
        exchange.headers_s = self._clock() - started
        exchange.http_status = response.status
        exchange.phase = Phase.FIRST_TOKEN
        return response

    def end(self, response: aiohttp.ClientResponse) -> None:
        """Be done with a response; what was not read to its end has its connection closed."""
        if not response.content.at_eof():
            response.close()
        response.release()
        self._slots.release()

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Read one short answer whole, within 5 s: probes, token counts, aborts.

        `path` may be a whole address, for what hangs elsewhere than the API. A question costs
        nothing, so one that met a connection already given up is asked anew: only attempts are
        never repeated here.
        """
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                try:
                    return await self._ask(method, path, body)
                except Unreachable as error:
                    if not self._learn_from(error):
                        raise
                    return await self._ask(method, path, body)
        except TimeoutError:
            raise Unreachable(ErrorClass.FIRST_TOKEN_TIMEOUT) from None

    async def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        exchange = Exchange()
        _dialling.set(_Dial(exchange, self._clock(), self._clock))
        with transport_errors(exchange):
            async with self._session().request(
                method,
                self._url(path),
                data=body,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                text = await read_whole(response, _MAX_ANSWER_BYTES)
                return Answer(response.status, lower_headers(response), text)

    def _learn_from(self, error: BaseException) -> bool:
        """Whether it was a stale connection; the next one will then be made anew."""
        stale = isinstance(error, Unreachable) and error.error_class is ErrorClass.STALE_CONNECTION
        connector = self._session().connector
        if stale and isinstance(connector, _Connector):
            connector.doubt()
        return stale

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(POOL_TIMEOUT_S):
                await self._slots.acquire()
        except TimeoutError:
            raise Unreachable(ErrorClass.POOL_TIMEOUT) from None

    def _session(self) -> aiohttp.ClientSession:
        return self._sessions.session(self._keepalive_s, proxied=self._proxied)

    def _url(self, path: str) -> URL:
        if path not in self._urls:
            self._urls[path] = URL(path if "://" in path else self.base_url + path)
        return self._urls[path]


async def read_whole(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a body to its end. Raises `BadReply` (`response_too_large`) past `limit` bytes."""
    pieces = bytearray()
    async for piece in response.content.iter_any():
        pieces += piece
        if len(pieces) > limit:
            raise BadReply(ErrorClass.RESPONSE_TOO_LARGE)
    return bytes(pieces)


def lower_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


class transport_errors:  # noqa: N801 - reads as the statement it is
    """Within it, what aiohttp raises becomes a `ProviderError`, the most specific that fits."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (aiohttp.ClientError, OSError, ValueError)):
            raise _mapped(error, self._exchange) from error


def _mapped(error: Exception, exchange: Exchange) -> ProviderError:
    for kinds, error_class in _CAUSES:
        if isinstance(error, kinds):
            return Unreachable(error_class)
    if isinstance(error, aiohttp.ClientPayloadError):
        return BadReply(ErrorClass.TRUNCATED_STREAM)
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | OSError):
        untouched = exchange.http_status is None
        if untouched and exchange.reused_connection:
            return Unreachable(ErrorClass.STALE_CONNECTION)
        return BadReply(ErrorClass.TRUNCATED_STREAM, detail=type(error).__name__)
    return BadReply(ErrorClass.BAD_BODY, detail=type(error).__name__)


_CAUSES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], ErrorClass], ...] = (
    (aiohttp.ClientConnectorDNSError, ErrorClass.DNS),
    ((aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError), ErrorClass.TLS),
    (aiohttp.ClientConnectorError, ErrorClass.CONNECT_REFUSED),
    (aiohttp.ClientHttpProxyError, ErrorClass.CONNECT_REFUSED),
    ((aiohttp.ServerTimeoutError, TimeoutError), ErrorClass.CONNECT_TIMEOUT),
)
