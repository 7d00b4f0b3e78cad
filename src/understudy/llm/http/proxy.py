"""HTTP proxies from the environment: which one, and the tunnel through it."""

import asyncio
import os
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import cast
from urllib.parse import unquote, urlsplit

from understudy.errors import ConfigError, ErrorClass, ProviderError, Unreachable
from understudy.llm.http.parser import ResponseParser

_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    host: str
    port: int
    tls: bool = False
    """Whether the proxy itself is reached over TLS."""
    authorization: str | None = None
    """The value of Proxy-Authorization."""


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """Return the proxy that the environment names for this server, `None` for none.

    Reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, lower case first; on Windows and macOS
    the settings of the system too. NO_PROXY lists domains (with their subdomains) and addresses,
    each with a port or for every port, networks (`10.0.0.0/8`), or `*`. Raises `ConfigError` for
    an address that cannot be used: to connect past a proxy could show what it is there to hide.
    """
    if not _may_have_proxies():
        return None
    # Takes 20 ms to import.
    from urllib.request import getproxies, getproxies_environment, proxy_bypass

    proxies = getproxies()
    address = proxies.get(scheme) or proxies.get("all")
    if not address:
        return None
    if not getproxies_environment():
        return None if proxy_bypass(f"{host}:{port}") else read_proxy(address)
    entries = (entry.strip().lower() for entry in proxies.get("no", "").split(","))
    if any(_excludes(entry, host.lower(), port) for entry in entries if entry):
        return None
    return read_proxy(address)


def _excludes(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY names this server."""
    if entry == "*":
        return True
    if "/" in entry:
        return _is_in_network(host, entry)
    name, colon, end = entry.rpartition(":")
    if colon and end.isdecimal() and (":" not in name or name.endswith("]")):
        if int(end) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").lstrip(".")
    if _is_in_network(host, host):
        return _is_in_network(host, entry)
    return host == entry or host.endswith(f".{entry}")


def _is_in_network(host: str, network: str) -> bool:
    """Whether both are addresses, and the one is in the other; a single address is a network."""
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def read_proxy(address: str) -> Proxy:
    """Raises `ConfigError`."""
    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
        port = url.port or _DEFAULT_PORT.get(url.scheme, 0)
    except ValueError:
        raise ConfigError("the proxy address in the environment is invalid") from None
    if url.scheme not in _DEFAULT_PORT or not url.hostname:
        raise ConfigError(
            f"proxies of kind {url.scheme}:// are not supported: set HTTPS_PROXY to an http:// "
            "proxy, or list the server in NO_PROXY"
        )
    authorization = None
    if url.username is not None:
        authorization = basic(url.username, url.password)
    return Proxy(url.hostname, port, url.scheme == "https", authorization)


def basic(quoted_user: str, quoted_password: str | None) -> str:
    """Return the Authorization value for the user and password of a URL."""
    pair = f"{unquote(quoted_user)}:{unquote(quoted_password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def _may_have_proxies(environ: Mapping[str, str] = os.environ) -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return any(name.lower().endswith("_proxy") for name in environ)


class Tunnel(asyncio.Protocol):
    """Asks a proxy for a connection to `authority` and waits for its answer."""

    def __init__(self, authority: str, authorization: str | None) -> None:
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", "User-Agent: understudy"]
        if authorization is not None:
            lines.append(f"Proxy-Authorization: {authorization}")
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._parser = ResponseParser()
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def opened(self) -> None:
        """Wait for the tunnel. Raises `Unreachable` (`connect_refused`)."""
        try:
            await self._answered
        finally:
            self._parser.release()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if self._answered.done():
            return
        parser.feed(data)
        if parser.fault is not None:
            self._refuse(parser.fault.detail)
        elif parser.status is not None and not 200 <= parser.status < 300:
            self._refuse(f"it answered HTTP {parser.status}")
        elif parser.parts:
            self._refuse("it sent data before the tunnel was used")
        elif parser.status is not None:
            self._answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self._answered.done():
            self._refuse("it closed the connection")

    def _refuse(self, reason: str) -> None:
        error: ProviderError = Unreachable(
            ErrorClass.CONNECT_REFUSED, detail=f"the proxy refused the tunnel: {reason}"
        )
        self._answered.set_exception(error)
