"""What people write as a server's address → where its API is."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_VERSION = re.compile(r"v\d\w*")
_PASTED = ("/chat/completions", "/completions", "/models", "/api/v1/generate", "/generate")
_LOCAL_SUFFIXES = (".local", ".lan", ".internal", ".home.arpa")


def api_root(base_url: str) -> str:
    """Return the address that `/chat/completions` hangs on: with or without `/v1`, both work."""
    root = _without_page(base_url)
    return root if _has_version(root) else f"{root}/v1"


def unversioned_root(base_url: str) -> str | None:
    """Return the address as written where it has a path but no version: `/v1` may be wrong there.

    `None` for all others.
    """
    root = _without_page(base_url)
    return None if _has_version(root) or not urlsplit(root).path.strip("/") else root


def _without_page(base_url: str) -> str:
    root = base_url.strip().rstrip("/")
    for pasted in _PASTED:
        root = root.removesuffix(pasted)
    return root


def _has_version(root: str) -> bool:
    return any(_VERSION.fullmatch(segment) for segment in urlsplit(root).path.split("/"))


def server_root(base_url: str) -> str:
    """Return the address of the server itself, where its native endpoints hang."""
    return api_root(base_url).removesuffix("/v1").removesuffix("/api")


def host_of(base_url: str) -> str:
    return (urlsplit(base_url).hostname or "").lower()


def is_local(base_url: str) -> bool:
    """Whether this is the own machine or network: no proxy, and a short connect limit."""
    host = host_of(base_url)
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_SUFFIXES)
