"""The gateway as an application of the HTTP server: OpenAI's protocol over the ModelRouter."""

import functools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from understudy.config.settings import Gateway as GatewaySettings
from understudy.errors import RequestRefused
from understudy.gateway.admission import BodyBudget, RequestLimiter
from understudy.gateway.auth import Access
from understudy.gateway.call import Call
from understudy.gateway.key_limits import KeyLimits
from understudy.gateway.reply_call import ReadBody, ReplyCall, Serving, Source
from understudy.gateway.requests import ModelNames, read_ask, read_completion
from understudy.gateway.responses import model_entry, model_list
from understudy.http_server.auth_throttle import AuthFailures
from understudy.http_server.exchange import Exchange, Receiver, header_lines

_USUAL_HEADERS = (b"authorization", b"content-type", b"x-api-key")
_HEADER_NAME = re.compile(rb"[A-Za-z0-9-]{1,64}")
_MOST_HEADERS = 50
_OPENAPI = Path(__file__).with_name("openapi.json")

Endpoint = Callable[[Call], Receiver | None]
"""Answers a call, or returns what does."""


class Gateway:
    """Serves chat completions, bare completions and the model list.

    One request is one reply of the router; nothing is retried here. An instance belongs to one
    configuration; a reload creates another one with the same `limits`, which must be among the
    router's observers to count tokens.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        source: Source,
        limits: KeyLimits,
        *,
        new_id: Callable[[], str],
        failures: AuthFailures | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises `ConfigError` for a key without a value."""
        self._access = Access(settings.keys, settings.cors_origins)
        self._names = ModelNames(source.candidates, settings.orders, source.unusable)
        self._serving = Serving(
            source,
            self._names,
            RequestLimiter(settings.max_requests),
            BodyBudget(settings.max_body_bytes, settings.max_held_bytes),
            limits,
            wall,
            settings.clean,
            settings.degrade_images,
        )
        self._failures = failures or AuthFailures()
        self._new_id = new_id
        self._started = int(wall())
        self._endpoints: dict[bytes, dict[bytes, Endpoint]] = {
            b"/chat/completions": {b"POST": functools.partial(self._reply, read_ask)},
            b"/completions": {b"POST": functools.partial(self._reply, read_completion)},
            b"/models": {b"GET": self._models},
            b"/openapi.json": {b"GET": self._document},
            b"/healthz": {b"GET": self._health},
        }
        # Both `…/v1` and the bare address are in use as a base URL.
        self._endpoints |= {b"/v1" + path: methods for path, methods in self._endpoints.items()}

    def __call__(self, exchange: Exchange) -> Receiver | None:
        headers = exchange.named
        call_id = self._new_id()
        lines = b"x-router-request-id: %b\r\n" % call_id.encode()
        if b"origin" in headers:
            lines += self._access.cors(headers)
        call = Call(exchange, call_id, headers, lines)
        try:
            if self._failures.times:
                self._check_failures(call)
            methods = self._endpoints.get(exchange.target) or self._methods(call)
            endpoint = methods.get(exchange.method)
            if endpoint is None:
                endpoint = functools.partial(_other_method, methods)
            return endpoint(call)
        except RequestRefused as refusal:
            if refusal.status == 401 and call.has_credentials:
                self._failures.add(exchange.client.host)
            call.refuse(refusal)
            return None

    def _check_failures(self, call: Call) -> None:
        """Refuse right credentials too, after many wrong ones: else a guess would be tried."""
        wait_s = self._failures.wait_s(call.exchange.client.host)
        if wait_s > 0 and call.has_credentials:
            raise RequestRefused(
                429,
                "too_many_wrong_keys",
                "Too many wrong keys from this address.",
                retry_after_s=wait_s,
            )

    def _methods(self, call: Call) -> dict[bytes, Endpoint]:
        """Find the endpoint of a target that is not just its path."""
        path = call.path.removeprefix("/v1")
        known = "/models" if path.startswith("/models/") else path
        methods = self._endpoints.get(known.encode())
        if methods is None:
            raise RequestRefused(404, "unknown_path", f"There is nothing at {call.path}.")
        return methods

    def _reply(self, read: ReadBody, call: Call) -> Receiver:
        guest = self._access.admit(call.exchange.client.host, call.headers)
        return ReplyCall(self._serving, call, guest, read)

    def end_replies(self) -> None:
        """End all running replies: streams with an error event, other answers with a 503."""
        for call in tuple(self._serving.calls):
            call.end_early()

    def _models(self, call: Call) -> None:
        self._access.admit(call.exchange.client.host, call.headers)
        names = self._names.all()
        wanted = unquote(call.path.partition("/models")[2].lstrip("/"))
        if not wanted:
            call.respond(model_list(names, self._started))
        elif wanted in names:
            call.respond(model_entry(wanted, self._started))
        else:
            raise RequestRefused(404, "model_not_found", f"There is no model {wanted!r} here.")

    def _document(self, call: Call) -> None:
        call.respond(_OPENAPI.read_bytes())

    def _health(self, call: Call) -> None:
        call.respond(b'{"status":"ok"}')


def _other_method(methods: Iterable[bytes], call: Call) -> None:
    if call.exchange.method == b"OPTIONS":
        _preflight(call)
        return
    allowed = b", ".join(methods)
    text = f"{call.path} takes {allowed.decode()}."
    call.refuse(RequestRefused(405, "method_not_allowed", text), b"allow: %b\r\n" % allowed)


def _preflight(call: Call) -> None:
    """Answer a preflight request; without CORS headers the browser sends no request."""
    lines = header_lines(
        [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", _allowed_headers(call.headers)),
            (b"access-control-max-age", b"600"),
        ]
    )
    call.exchange.respond(204, call.lines + lines, b"")


def _allowed_headers(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the headers the browser asks for: SDKs send many, as `x-stainless-*`."""
    asked = headers.get(b"access-control-request-headers", b"")
    names = [name.strip() for name in asked.split(b",")]
    well_formed = [name for name in names if _HEADER_NAME.fullmatch(name)]
    return b", ".join(dict.fromkeys((*_USUAL_HEADERS, *well_formed[:_MOST_HEADERS])))
