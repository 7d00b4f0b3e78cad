"""Which requests come from this machine itself: loopback addresses and forwarding headers."""

import ipaddress
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

FORWARDING_HEADERS = frozenset(
    {
        "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port",
        "x-forwarded-proto", "x-forwarded-server", "x-original-forwarded-for", "x-real-ip",
        "cf-connecting-ip", "cf-ray", "true-client-ip", "x-client-ip", "x-cluster-client-ip",
        "fly-client-ip",
    }
)  # fmt: skip
"""A proxy sends one of these: the peer's address is then not the client's. Lower case."""


def is_loopback(host: str | None) -> bool:
    """Whether an address or a host name can only mean this machine.

    Browsers resolve every name below `localhost` to loopback themselves (RFC 6761, section 6.3).
    """
    if host is None:
        return False
    name = host.strip("[]").lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def is_direct(peer: str | None, header_names: Iterable[str]) -> bool:
    """Whether the client runs on this machine and no proxy forwarded its request."""
    return is_loopback(peer) and FORWARDING_HEADERS.isdisjoint(
        name.lower() for name in header_names
    )


def client_network(peer: str, forwarded_for: Sequence[str]) -> str:
    """The network that a client writes from, for limits; `forwarded_for` holds the values of its
    `X-Forwarded-For` headers.

    Behind a proxy of this network it is what the proxy added, which is the last address. Clients
    have a whole /64 of IPv6 addresses.
    """
    address = _address(peer)
    if address is None:
        return peer
    if address.is_private and forwarded_for:
        address = _address(forwarded_for[-1].rpartition(",")[2]) or address
    return (
        str(ipaddress.ip_network((address, 64), strict=False))
        if address.version == 6
        else str(address)
    )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def socket_address(name: object) -> tuple[str, int]:
    """Return host and port of a socket's name; that of a client that has left is empty."""
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return "", 0


def host_name(host_header: str) -> str:
    """The name or address in a `Host` header, without its port; empty for what is none."""
    try:
        return urlsplit(f"//{host_header}").hostname or ""
    except ValueError:
        return ""
