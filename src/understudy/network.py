"""Which requests come from this machine itself: loopback addresses and forwarding headers."""

import ipaddress
from collections.abc import Iterable
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


def host_name(host_header: str) -> str:
    """The name or address in a `Host` header, without its port; empty for what is none."""
    try:
        return urlsplit(f"//{host_header}").hostname or ""
    except ValueError:
        return ""
