"""More requests than the model servers can answer: some are, the others hear at once."""

import asyncio
import json
from collections import Counter
from dataclasses import replace

import aiohttp

from gateway_setup import candidate, gateway_over
from understudy.config.settings import Gateway as GatewaySettings
from understudy.llm.http.endpoint import HttpSessions
from understudy.rehearsal.server import RehearsalServer

ASK = {"messages": [{"role": "user", "content": "hi"}]}
CROWD = 150


async def outcomes(
    settings: GatewaySettings, places: int | None = None, line: int | None = None
) -> Counter[tuple[int, str, str]]:
    """(status, code, Retry-After) of each of a crowd that asks in the same moment."""

    async def one(http: aiohttp.ClientSession, url: str) -> tuple[int, str, str]:
        async with http.post(f"{url}/chat/completions", json=ASK) as response:
            error = json.loads(await response.read()).get("error", {})
            return response.status, error.get("code", ""), response.headers.get("retry-after", "")

    sessions = HttpSessions()
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        RehearsalServer("ok:0.01") as server,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        plain = candidate("only", server, sessions)
        only = replace(plain, max_concurrency=places, queue_length=line)
        async with gateway_over([only], settings) as url:
            seen = Counter(await asyncio.gather(*(one(http, url) for _ in range(CROWD))))
    await sessions.aclose()
    return seen


async def test_a_server_of_one_place_answers_those_in_line_and_the_rest_are_told_at_once() -> None:
    seen = await outcomes(GatewaySettings(), places=1, line=4)

    assert set(seen) == {(200, "", ""), (429, "busy", "5")}
    assert 5 <= seen[200, "", ""] < CROWD


async def test_past_what_the_gateway_holds_nobody_is_kept() -> None:
    seen = await outcomes(GatewaySettings(max_requests=20))

    assert set(seen) == {(200, "", ""), (429, "busy", "2")}
    assert seen[200, "", ""] >= 20
