"""Stored attempts on the operator's page: filter, search, pages."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.platforms.web.api import ApiError, json_routes
from understudy.platforms.web.serializers import attempt_row
from understudy.routing.ledger import AttemptFilter, LedgerReader
from understudy.routing.records import Outcome

PAGE = 50
_MAX_PAGES = 10_000
_MAX_WORDS = 8
_MAX_TEXT = 200


class OperatorAttempts:
    def __init__(self, ledger: LedgerReader, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock

    def routes(self) -> list[Route]:
        return json_routes(("GET", "/api/operator/attempts", self.find))

    async def find(self, request: Request) -> Response:
        """One page, newest first. `until` of the first page keeps the later ones in place."""
        query = request.query_params
        page = _number(query.get("page", "0"), _MAX_PAGES)
        until = float(_number(query.get("until", "0"), 2**40)) or self._clock() + 1
        words = query.get("text", "")[:_MAX_TEXT].split()[:_MAX_WORDS]
        wanted = AttemptFilter(until, tuple(words), _outcome(query.get("outcome", "")))
        # One more row says whether there is another page.
        found = await self._ledger.attempts(wanted, PAGE + 1, page * PAGE)
        rows = [attempt_row(attempt) for attempt in found[:PAGE]]
        return JSONResponse({"rows": rows, "until": int(until), "more": len(found) > PAGE})


def _number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16) or int(text) > most:
        raise ApiError(400, "page and until are whole numbers.")
    return int(text)


def _outcome(text: str) -> Outcome | None:
    if not text:
        return None
    try:
        return Outcome(text)
    except ValueError:
        raise ApiError(400, f"outcome is one of: {', '.join(Outcome)}") from None
