"""Reports on the operator's page: servers, usage tables, the configuration, the program."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.platforms.web.api import ApiError, json_routes
from understudy.platforms.web.audit import audit
from understudy.platforms.web.serializers import Json, step_of
from understudy.routing.ledger import Grouping, LedgerReader, UsageRow, start_of_day
from understudy.routing.records import AttemptRecord, Outcome

RECENT_REPLIES = 500
_DAYS = {"day": 1, "week": 7, "month": 30}
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class ProgramFacts:
    """What the page shows about the program."""

    version: str
    started_at: float
    """Wall clock."""
    revision: str
    """Of the configuration in use."""
    configuration: str
    """As YAML, with secrets masked."""
    instance: str = ""
    """The name of this process in a shared database."""
    discord: str = ""
    """The state of the connection, in words."""


@dataclass(frozen=True, slots=True)
class ReportDependencies:
    ledger: LedgerReader
    clock: Callable[[], float]
    facts: Callable[[], ProgramFacts]
    new_login_link: Callable[[], str]


class OperatorReports:
    def __init__(self, deps: ReportDependencies) -> None:
        self._deps = deps

    def routes(self) -> list[Route]:
        return json_routes(
            ("GET", "/api/operator/servers", self.servers),
            ("GET", "/api/operator/usage/{group}", self.usage),
            ("GET", "/api/operator/about", self.about),
            ("POST", "/api/operator/login-link", self.login_link),
        )

    async def servers(self, _request: Request) -> Response:
        """Figures of each server over the last replies, and its cost today (UTC)."""
        now = self._deps.clock()
        replies = await self._deps.ledger.recent(RECENT_REPLIES)
        attempts = [attempt for reply in replies for attempt in reply.attempts]
        today = await self._deps.ledger.usage(Grouping.PROVIDER, start_of_day(now), now + 1)
        costs = {row.key: row.cost_usd for row in today}
        return JSONResponse({"servers": server_figures(attempts), "cost_today": costs})

    async def usage(self, request: Request) -> Response:
        group, span = request.path_params["group"], request.query_params.get("span", "day")
        if group not in ("model", "user", "channel", "provider") or span not in _DAYS:
            raise ApiError(400, f"span is one of: {', '.join(_DAYS)}")
        until = self._deps.clock() + 1
        since = until - _DAYS[span] * DAY_S
        rows = await self._deps.ledger.usage(Grouping(group), since, until)
        return JSONResponse({"rows": [_usage_row(row) for row in rows[:50]]})

    async def about(self, _request: Request) -> Response:
        facts = self._deps.facts()
        return JSONResponse({**asdict(facts), "now": self._deps.clock()})

    async def login_link(self, request: Request) -> Response:
        audit(request, "login_link")
        return JSONResponse({"link": self._deps.new_login_link()})


def server_figures(attempts: Iterable[AttemptRecord]) -> dict[str, Json]:
    """Success rate, time to the first token and last error by label, of attempts newest first."""
    by_label: dict[str, list[AttemptRecord]] = {}
    for attempt in attempts:
        if attempt.outcome is not Outcome.SKIPPED:
            by_label.setdefault(attempt.label, []).append(attempt)
    return {label: _figures(own) for label, own in by_label.items()}


def _figures(attempts: Sequence[AttemptRecord]) -> Json:
    ended = [attempt for attempt in attempts if attempt.outcome is not Outcome.CANCELLED]
    good = sum(attempt.outcome is Outcome.OK for attempt in ended)
    firsts = sorted(a.t_first_output_ms for a in ended if a.t_first_output_ms is not None)
    errors = [attempt for attempt in ended if attempt.outcome is Outcome.ERROR]
    last = max(errors, key=lambda attempt: attempt.ts, default=None)
    return {
        "attempts": len(ended),
        "success": good / len(ended) if ended else None,
        "p50_ms": percentile(firsts, 0.5),
        "p95_ms": percentile(firsts, 0.95),
        "last_error": (step_of(last) or {}).get("verdict") if last else None,
        "last_error_at": last.ts if last else None,
    }


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of sorted values."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _usage_row(row: UsageRow) -> Json:
    return {
        "key": row.key,
        "replies": row.replies,
        "attempts": row.attempts,
        "failures": row.failures,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": row.cost_usd,
        "unknown_costs": row.unknown_costs,
    }
