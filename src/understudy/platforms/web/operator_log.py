"""The end of the program's log on the operator's page."""

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.platforms.web.api import json_routes

ReadLog = Callable[[int], tuple[int, Sequence[str]]]
"""The lines after a number, and the number of the last one."""


class OperatorLog:
    def __init__(self, read: ReadLog) -> None:
        self._read = read

    def routes(self) -> list[Route]:
        return json_routes(("GET", "/api/operator/log", self.lines))

    async def lines(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        is_number = after.isascii() and after.isdigit() and len(after) < 16
        number, lines = self._read(int(after) if is_number else 0)
        return JSONResponse({"number": number, "lines": list(lines)})
