"""Who may use the gateway: keys, the loopback rule, and what browsers may do."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from understudy.config.settings import GatewayKey
from understudy.errors import ConfigError, RequestRefused
from understudy.http_server.exchange import header_lines
from understudy.network import FORWARDING_HEADERS, host_name, is_loopback
from understudy.routing.records import NOBODY, Origin

_FORWARDING = frozenset(name.encode() for name in FORWARDING_HEADERS)
"""Set by reverse proxies, behind which every client has a loopback address."""

_MOST_REMEMBERED = 256
"""Headers with a right key, whose sender is remembered; hashing them takes longer."""
KEY_PREFIX = "sk-understudy-"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown once, and the entry that goes into the configuration."""

    key: str
    sha256: str


def make_key() -> NewKey:
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    return NewKey(key, hashlib.sha256(key.encode()).hexdigest())


class KeyQuota(msgspec.Struct, frozen=True):
    """What one key may use; reading it costs less than reading its entry in the configuration."""

    name: str
    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Guest:
    """The sender of a request: a key of the configuration, or a program on this machine."""

    name: str
    origin: Origin = NOBODY
    key: KeyQuota | None = None


ON_LOOPBACK = Guest("loopback")


def key_user(name: str) -> str:
    """Return the user that the ledger stores for a key."""
    return f"key:{name}"


def _digest(key: GatewayKey) -> bytes:
    if key.key is not None:
        return hashlib.sha256(key.key.get_secret_value().encode()).digest()
    if key.sha256 is None:
        # Loading the configuration has stored the value of a set variable in `key`.
        where = f"the variable {key.env!r} is not set" if key.env else "it names none"
        raise ConfigError(
            f"gateway.keys: there is no key for {key.name!r}: {where}; "
            "`understudy gateway key` makes one and prints its entry"
        )
    try:
        return bytes.fromhex(key.sha256.removeprefix("sha256:"))
    except ValueError:
        raise ConfigError(
            f"gateway.keys: the sha256 of {key.name!r} is not 64 hexadecimal digits; "
            "`understudy gateway key` prints a right one"
        ) from None


def _quota(key: GatewayKey) -> KeyQuota:
    return KeyQuota(
        key.name,
        key.requests_per_minute,
        key.requests_per_day,
        key.tokens_per_minute,
        key.tokens_per_day,
    )


class Access:
    """Authenticates requests. Raises `ConfigError` for a configured key without a value."""

    def __init__(self, keys: Sequence[GatewayKey], cors_origins: Sequence[str] = ()) -> None:
        self._guests = {
            _digest(key): Guest(key.name, Origin(user=key_user(key.name)), _quota(key))
            for key in keys
        }
        self._by_key = lru_cache(maxsize=_MOST_REMEMBERED)(self._find)
        self._origins = frozenset(origin.rstrip("/").encode() for origin in cors_origins)

    def admit(self, peer: str | None, headers: Mapping[bytes, bytes]) -> Guest:
        """Return the sender of a request. Raises `RequestRefused` (401, 403)."""
        if self._guests:
            return self._by_key(headers.get(b"authorization"), headers.get(b"x-api-key"))
        if not (is_loopback(peer) and _FORWARDING.isdisjoint(headers)):
            raise RequestRefused(
                401,
                "key_required",
                "Without keys this gateway answers only programs on its own machine. "
                "Add one under gateway.keys; `understudy gateway key` makes it.",
            )
        if not is_loopback(host_name(headers.get(b"host", b"").decode("latin-1"))):
            # A page that rebinds its own name to 127.0.0.1 keeps that name in Host.
            raise RequestRefused(403, "host_refused", "Address this gateway as 127.0.0.1.")
        origin = headers.get(b"origin")
        cross_site = headers.get(b"sec-fetch-site") == b"cross-site"
        if (origin is not None or cross_site) and not self._knows(origin or b""):
            raise RequestRefused(
                403,
                "origin_refused",
                "Web pages may use this gateway only from gateway.cors_origins.",
            )
        return ON_LOOPBACK

    def _find(self, authorization: bytes | None, api_key: bytes | None) -> Guest:
        """Return the sender by these headers. Raises `RequestRefused` (401), each time."""
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            token = api_key or b""
        if not token.strip():
            raise RequestRefused(
                401,
                "missing_api_key",
                "No API key was sent: this gateway wants `Authorization: Bearer ...`.",
            )
        # The time of a look-up depends on the hash alone, which a client cannot choose.
        found = self._guests.get(hashlib.sha256(token.strip()).digest())
        if found is None:
            raise RequestRefused(
                401, "invalid_api_key", "This key is not one of the gateway's keys."
            )
        return found

    def _knows(self, origin: bytes) -> bool:
        return b"*" in self._origins or origin in self._origins

    def cors(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Return the encoded headers that let a page read the response; none for other origins."""
        origin = headers.get(b"origin")
        if origin is None or not self._knows(origin):
            return b""
        return header_lines(
            [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", b"*"),
                (b"vary", b"origin"),
            ]
        )
