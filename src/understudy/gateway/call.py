"""One HTTP request to the gateway, and how it is answered with JSON."""

import math
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from understudy.errors import RequestRefused
from understudy.gateway.error_responses import error_body
from understudy.http_server.exchange import Exchange

JSON = b"content-type: application/json\r\n"
_CREDENTIALS = frozenset((b"authorization", b"x-api-key"))


class Call(msgspec.Struct, frozen=True):
    """`lines` are encoded headers, here and in `Exchange`."""

    exchange: Exchange
    id: str
    headers: Mapping[bytes, bytes]
    lines: bytes
    """Of every response to this request."""

    @property
    def path(self) -> str:
        return unquote(self.exchange.raw_path.decode("latin-1"))

    @property
    def has_credentials(self) -> bool:
        return not _CREDENTIALS.isdisjoint(self.headers)

    def respond(self, body: bytes, lines: bytes = b"") -> None:
        self.exchange.respond(200, b"%b%b%b" % (JSON, self.lines, lines), body)

    def refuse(self, refusal: RequestRefused, lines: bytes = b"") -> None:
        lines = JSON + self.lines + lines
        if refusal.retry_after_s is not None:
            lines += b"retry-after: %d\r\n" % math.ceil(refusal.retry_after_s)
        if refusal.status == 401:
            lines += b"www-authenticate: Bearer\r\n"
        self.exchange.respond(refusal.status, lines, error_body(refusal))
