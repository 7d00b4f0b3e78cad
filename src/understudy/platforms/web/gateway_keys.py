"""Keys of the gateway on the operator's page: make, limit, revoke, and what each has used."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.clock import DAY_S
from understudy.errors import ConfigError
from understudy.platforms.web.api import ApiError, json_routes, read_json
from understudy.platforms.web.audit import audit
from understudy.platforms.web.serializers import Json
from understudy.routing.client_keys import KeyLimitValues
from understudy.routing.ledger import Grouping, LedgerReader, UsageRow, start_of_day

_MONTH_S = 30 * DAY_S
_MOST = 10**15
_LIMITS = tuple(field.name for field in fields(KeyLimitValues))


@dataclass(frozen=True, slots=True)
class KeyView:
    name: str
    user: str
    """Its name in the ledger."""
    limits: KeyLimitValues
    in_configuration: bool
    """Whether it is in the file, and cannot be changed here."""
    created_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class GatewayView:
    enabled: bool
    base_url: str
    keys: Sequence[KeyView]


@dataclass(frozen=True, slots=True)
class GatewayKeyActions:
    """All but `show` raise ConfigError with the reason of a refusal, and StorageError."""

    show: Callable[[], GatewayView]
    make: Callable[[str, KeyLimitValues], Awaitable[str]]
    """Returns the key, which is shown once."""
    limit: Callable[[str, KeyLimitValues], Awaitable[None]]
    revoke: Callable[[str], Awaitable[None]]


class GatewayKeyPages:
    def __init__(
        self, actions: GatewayKeyActions, ledger: LedgerReader, clock: Callable[[], float]
    ) -> None:
        self._actions = actions
        self._ledger = ledger
        self._clock = clock

    def routes(self) -> list[Route]:
        path = "/api/operator/keys"
        return json_routes(
            ("GET", path, self.show),
            ("POST", path, self.make),
            ("POST", f"{path}/limit", self.limit),
            ("POST", f"{path}/revoke", self.revoke),
        )

    async def show(self, _request: Request) -> Response:
        now = self._clock()
        today = await self._usage(start_of_day(now), now + 1)
        month = await self._usage(now - _MONTH_S, now + 1)
        found = self._actions.show()
        keys = [
            {**asdict(key), "today": _used(today, key), "month": _used(month, key)}
            for key in found.keys
        ]
        return JSONResponse({"enabled": found.enabled, "base_url": found.base_url, "keys": keys})

    async def make(self, request: Request) -> Response:
        body = await read_json(request)
        name = _name(body)
        try:
            key = await self._actions.make(name, _limits(body))
        except ConfigError as error:
            raise ApiError(409, str(error)) from error
        audit(request, "key_made", name)
        return JSONResponse({"key": key}, headers={"Cache-Control": "no-store"})

    async def limit(self, request: Request) -> Response:
        body = await read_json(request)
        name = _name(body)
        try:
            await self._actions.limit(name, _limits(body))
        except ConfigError as error:
            raise ApiError(404, str(error)) from error
        audit(request, "key_limited", name)
        return JSONResponse({"said": f"Limits of {name} changed."})

    async def revoke(self, request: Request) -> Response:
        name = _name(await read_json(request))
        try:
            await self._actions.revoke(name)
        except ConfigError as error:
            raise ApiError(404, str(error)) from error
        audit(request, "key_revoked", name)
        return JSONResponse({"said": f"{name} is revoked: its requests are refused."})

    async def _usage(self, since: float, until: float) -> Mapping[str, UsageRow]:
        rows = await self._ledger.usage(Grouping.USER, since, until)
        return {row.key: row for row in rows}


def _used(rows: Mapping[str, UsageRow], key: KeyView) -> Json:
    row = rows.get(key.user)
    if row is None:
        return {"replies": 0, "tokens": 0, "cost_usd": None}
    tokens = (row.input_tokens or 0) + (row.output_tokens or 0)
    return {"replies": row.replies, "tokens": tokens, "cost_usd": row.cost_usd}


def _name(body: Mapping[str, object]) -> str:
    name = body.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ApiError(400, "A key needs a name.")
    return name.strip()[:100]


def _limits(body: Mapping[str, object]) -> KeyLimitValues:
    given = body.get("limits")
    if not isinstance(given, dict) or not set(given) <= set(_LIMITS):
        raise ApiError(400, f"limits is an object with: {', '.join(_LIMITS)}")
    for value in given.values():
        if value is not None and (
            not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST
        ):
            raise ApiError(400, "A limit is a whole number from 1 on, or nothing.")
    return KeyLimitValues(**given)
