"""Opens connections: names, happy eyeballs, TLS, proxies; and what failed about it."""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from understudy.errors import ConfigError, ErrorClass, ProviderError, Unreachable
from understudy.llm.http.proxy import Proxy, Tunnel
from understudy.llm.http.unread import TLSContext

_HAPPY_EYEBALLS_DELAY_S = 0.25
_DEFAULT_PORT = {"http": 80, "https": 443}
_PLAIN_HTTP_REASONS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")

Addresses = Sequence[AddrInfoType]
MakeProtocol = Callable[[], asyncio.Protocol]


@dataclass(frozen=True, slots=True)
class Origin:
    """The server that a URL names."""

    scheme: str
    host: str
    port: int

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """`host:port`, the port left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    @property
    def tunnel_authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_origin(url: str) -> Origin:
    """Raises `ConfigError` for anything but an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORT[parts.scheme]
        host = parts.hostname or ""
        host = host if host.isascii() else host.encode("idna").decode()
        if host:
            return Origin(parts.scheme, host, port)
    except (ValueError, KeyError):  # a UnicodeError is a ValueError
        pass
    shown = "an address" if "@" in url else repr(url)  # it may hold a password
    raise ConfigError(f"{shown} is not of the form http://host:port or https://host")


class Network:
    """What connections share: TLS settings, and name look-ups under way."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None
        self._lookups: dict[tuple[str, int], asyncio.Task[Addresses]] = {}

    async def tls(self) -> ssl.SSLContext:
        """Return the context with the system's trusted authorities, or those of SSL_CERT_FILE."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(_tls_context)
        return self._tls

    async def addresses(self, host: str, port: int) -> Addresses:
        """Resolve a name. Raises `OSError`.

        Callers share one look-up of a name: each blocks a thread, for as long as a dead name
        server makes it wait, and cannot be cancelled.
        """
        if _is_address(host):
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        key = (host, port)
        task = self._lookups.get(key)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.create_task(self._look_up(key))
            self._lookups[key] = task
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._lookups.values() if task.get_loop() is loop]
        self._lookups.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(self, key: tuple[str, int]) -> Addresses:
        try:
            return await self._resolve(*key)
        finally:
            self._lookups.pop(key, None)

    async def _resolve(self, host: str, port: int) -> Addresses:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Connector:
    """Opens connections to one origin, through one proxy or none."""

    def __init__(self, network: Network, origin: Origin, proxy: Proxy | None) -> None:
        self._network = network
        self._origin = origin
        self._proxy = proxy

    async def connect(self, make: MakeProtocol) -> None:
        """Open a connection and call `connection_made` of the protocol that `make` returns.

        Raises what `connect_error` names. No limit on time: the caller cancels, which closes the
        socket.
        """
        if self._proxy is not None:
            await self._connect_by_proxy(self._proxy, make)
        else:
            tls = await self._network.tls() if self._origin.tls else None
            await self._open(self._origin.host, self._origin.port, tls, make)

    async def _connect_by_proxy(self, proxy: Proxy, make: MakeProtocol) -> None:
        tls = await self._network.tls() if proxy.tls else None
        try:
            if not self._origin.tls:
                await self._open(proxy.host, proxy.port, tls, make)
                return
            tunnel = Tunnel(self._origin.tunnel_authority, proxy.authorization)
            transport = await self._open(proxy.host, proxy.port, tls, lambda: tunnel)
        except OSError as error:
            raise Unreachable(ErrorClass.CONNECT_REFUSED, detail=f"proxy: {error}") from error
        try:
            await tunnel.opened()
            await self._secure(transport, make())
        except BaseException:
            transport.abort()
            raise

    async def _secure(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Start TLS with the origin inside a tunnel."""
        tls = await self._network.tls()
        if transport.is_closing():
            # The handshake would never end: what is lost already is not reported again.
            raise ConnectionResetError("the proxy closed the tunnel")
        secured = await asyncio.get_running_loop().start_tls(
            transport, protocol, tls, server_hostname=self._origin.host
        )
        assert secured is not None
        protocol.connection_made(secured)

    async def _open(
        self, host: str, port: int, tls: ssl.SSLContext | None, make: MakeProtocol
    ) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        addresses = await self._network.addresses(host, port)
        sock = await start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY_S)
        # A peer that vanished without a word ends a long stream in the end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport, _ = await loop.create_connection(
            make, sock=sock, ssl=tls, server_hostname=host if tls is not None else None
        )
        return transport


def connect_error(error: Exception) -> ProviderError:
    """Return what a failure of `Connector.connect` is to the router."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, TimeoutError):
        return Unreachable(ErrorClass.CONNECT_TIMEOUT)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return Unreachable(ErrorClass.DNS, detail=str(error))
    if isinstance(error, ssl.SSLError):
        return Unreachable(ErrorClass.TLS, detail=_tls_detail(error))
    if isinstance(error, (OSError, RuntimeError)):  # uvloop raises RuntimeError for some
        return Unreachable(ErrorClass.CONNECT_REFUSED, detail=str(error))
    return Unreachable(ErrorClass.INTERNAL, detail=type(error).__name__)


def _tls_detail(error: ssl.SSLError) -> str:
    if error.reason in _PLAIN_HTTP_REASONS:
        return "the server does not speak TLS; use http://"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    return str(error)


def _tls_context() -> ssl.SSLContext:
    """Return what `ssl.create_default_context` does, of the class that can be read on."""
    context = TLSContext(ssl.PROTOCOL_TLS_CLIENT)
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
