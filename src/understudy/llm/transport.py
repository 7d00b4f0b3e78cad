"""The one HTTP helper: shared sessions, bounded pools, and transport trouble → our errors."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
from aiohttp import hdrs
from yarl import URL

from understudy.errors import BadReply, ErrorClass, ProviderError, Unreachable
from understudy.llm.addresses import is_local
from understudy.llm.client import Exchange, Phase

POOL_TIMEOUT_S = 1.0
_MAX_IN_FLIGHT = 256
_PROBE_TIMEOUT_S = 5.0
_MAX_ANSWER_BYTES = 32 * 1024 * 1024


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
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=proxied,
                trace_configs=[_tracing()],
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
        connect_timeout_s: float,
        keepalive_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url
        self._sessions = sessions
        self._headers = dict(headers)
        self._keepalive_s = keepalive_s
        self._proxied = not is_local(base_url)
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, ceil_threshold=1e9
        )
        self._clock = clock
        self._slots = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._urls: dict[str, URL] = {}

    @asynccontextmanager
    async def post(
        self, path: str, body: bytes, exchange: Exchange
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Send `body` and yield the response with its head read, filling in `exchange`.

        A response that was not read to its end has its connection closed at once.
        """
        started = self._clock()
        trace = _Trace(exchange, started, self._clock)
        await self._take_slot()
        try:
            with transport_errors(exchange):
                response = await self._session().post(
                    self._url(path),
                    data=body,
                    headers=self._headers,
                    timeout=self._timeout,
                    allow_redirects=False,
                    trace_request_ctx=trace,
                )
            try:
                exchange.headers_s = self._clock() - started
                exchange.http_status = response.status
                exchange.phase = Phase.FIRST_TOKEN
                yield response
            finally:
                if not response.content.at_eof():
                    response.close()
                response.release()
        finally:
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
                    if error.error_class is not ErrorClass.STALE_CONNECTION:
                        raise
                    return await self._ask(method, path, body)
        except TimeoutError:
            raise Unreachable(ErrorClass.FIRST_TOKEN_TIMEOUT) from None

    async def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        exchange = Exchange()
        with transport_errors(exchange):
            async with self._session().request(
                method,
                self._url(path),
                data=body,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
                trace_request_ctx=_Trace(exchange, self._clock(), self._clock),
            ) as response:
                text = await read_whole(response, _MAX_ANSWER_BYTES)
                return Answer(response.status, lower_headers(response), text)

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


@dataclass(slots=True)
class _Trace:
    exchange: Exchange
    started: float
    clock: Callable[[], float]

    def connected(self, *, reused: bool) -> None:
        self.exchange.connect_s = self.clock() - self.started
        self.exchange.reused_connection = reused
        self.exchange.phase = Phase.HEADERS


def _tracing() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig()
    config.on_connection_create_end.append(_created)
    config.on_connection_reuseconn.append(_reused)
    config.freeze()
    return config


async def _created(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionCreateEndParams,
) -> None:
    trace = context.trace_request_ctx
    if isinstance(trace, _Trace):
        trace.connected(reused=False)


async def _reused(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    trace = context.trace_request_ctx
    if isinstance(trace, _Trace):
        trace.connected(reused=True)
