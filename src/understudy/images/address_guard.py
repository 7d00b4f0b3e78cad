"""The addresses that images may be fetched from: public ones, or hosts the operator allows.

The guard resolves the name itself, and the connection goes to a checked address: a DNS answer
cannot change between check and use.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from yarl import URL

from understudy.errors import ImageRefusal, ImageRefused

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) → addresses as text; raises OSError when there are none."""

# RFC 6052: a NAT64 gateway turns the last 32 bits into an IPv4 address of its own network.
_NAT64 = IPv6Network("64:ff9b::/96")
# RFC 8215: for NAT64 within a network; Python calls it global.
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
# `2130706433` and `0x7f.1` are 127.0.0.1 to some resolvers.
_NUMERIC = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+))*\.?", re.IGNORECASE)
_PORTS = {80, 443}


def is_public(address: str) -> bool:
    """Whether an address is on the public internet, also an IPv4 address inside an IPv6 one."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        inner = _wrapped(ip)
        if inner is not None:
            return _is_public(inner)
    return _is_public(ip)


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    # RFC 3879 deprecated the site-local range fec0::/10 in 2004 and Python calls it global;
    # home routers may still route it.
    if isinstance(ip, IPv6Address) and (ip.is_site_local or ip in _LOCAL_NAT64):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _wrapped(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.teredo is not None:
        return ip.teredo[1]
    return ip.ipv4_mapped or ip.sixtofour


def check_url(url: URL, allowed: Collection[str]) -> None:
    """Raises ImageRefused for a URL that is forbidden whatever its name resolves to."""
    host = url.host
    if url.scheme not in {"http", "https"} or not host or url.user or url.password:
        raise _refused("only plain http and https links can be opened")
    if _is_allowed(host, url.port, allowed):
        return
    if url.port not in _PORTS:
        raise _refused("its link uses an unusual port")
    if (_is_literal(host) or _NUMERIC.fullmatch(host)) and not is_public(host):
        raise _refused("its link does not point to the public internet")


def check_addresses(
    host: str, port: int, addresses: Collection[str], allowed: Collection[str]
) -> None:
    """Raises ImageRefused for a name that resolves to an address which is not public."""
    if not _is_allowed(host, port, allowed) and not all(map(is_public, addresses)):
        # A private address among public ones is an attack.
        raise _refused("its link does not point to the public internet")


def _is_literal(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_allowed(host: str, port: int | None, allowed: Collection[str]) -> bool:
    return host in allowed or f"{host}:{port}" in allowed


def _refused(why: str) -> ImageRefused:
    return ImageRefused(ImageRefusal.ADDRESS, why)


async def system_resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
