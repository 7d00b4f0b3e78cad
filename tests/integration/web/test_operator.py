import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
import pytest

from operator_double import OperatorDouble, failed, reply
from understudy.errors import ErrorClass
from waiting import LIMIT_S
from web_double import attempt
from web_setup import LOCAL, NOW, open_site

OPERATOR = {"Authorization": "Bearer operator"}


@dataclass(slots=True)
class OperatorClient:
    http: aiohttp.ClientSession
    url: str
    operator: OperatorDouble

    async def get(self, path: str) -> tuple[int, dict[str, object]]:
        async with self.http.get(f"{self.url}{path}") as answer:
            return answer.status, await answer.json()

    async def post(self, path: str, body: object) -> tuple[int, dict[str, object]]:
        async with self.http.post(f"{self.url}{path}", json=body) as answer:
            return answer.status, await answer.json()

    async def events(self) -> AsyncIterator[tuple[str, dict[str, object]]]:
        async with self.http.get(f"{self.url}/api/operator/events") as answer:
            name = ""
            async for line in answer.content:
                if line.startswith(b"event: "):
                    name = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    yield name, json.loads(line[6:])


@asynccontextmanager
async def operator_client() -> AsyncIterator[OperatorClient]:
    async with (
        asyncio.timeout(LIMIT_S),
        open_site() as site,
        aiohttp.ClientSession(headers=OPERATOR) as http,
    ):
        yield OperatorClient(http, site.url, site.operator)


@pytest.mark.parametrize(
    "path", ["/api/operator/events", "/api/operator/usage", "/api/operator/replies/x"]
)
async def test_even_on_loopback_the_operators_pages_need_the_token(path: str) -> None:
    async with operator_client() as client, aiohttp.ClientSession() as stranger:
        async with stranger.get(f"{client.url}{path}") as answer:
            assert answer.status == 401
        async with stranger.get(f"{client.url}/operator", allow_redirects=False) as answer:
            assert answer.headers["Location"] == "/login?next=/operator"


async def test_a_failing_provider_is_reported_with_its_new_state() -> None:
    async with operator_client() as client:
        events = client.events()
        assert (await anext(events))[0] == "start"
        assert (await anext(events))[1]["level"] == "info"
        client.operator.candidates[0] = replace(
            LOCAL, state="cooldown", reason="silent", until=NOW + 10
        )
        client.operator.feed.attempt_ended(
            failed("local/koboldcpp", NOW, ErrorClass.FIRST_TOKEN_TIMEOUT)
        )
        name, row = await anext(events)
        board = await anext(events)

    assert (name, row["verdict"], row["outcome"]) == ("row", "silent", "error")
    assert board[0] == "board"
    assert "cooldown" in str(board[1]["candidates"])


async def test_a_cooldown_that_ends_without_an_attempt_is_reported() -> None:
    async with operator_client() as client:
        events = client.events()
        await anext(events)
        await anext(events)
        client.operator.candidates[0] = replace(LOCAL, state="probing")
        name, data = await anext(events)

    assert name == "board"
    assert "probing" in str(data["candidates"])


async def test_a_cooldown_whose_end_varies_slightly_is_reported_once() -> None:
    async with operator_client() as client:
        events = client.events()
        client.operator.candidates[0] = replace(LOCAL, state="cooldown", until=NOW + 10)
        await anext(events)
        await anext(events)
        client.operator.candidates[0] = replace(LOCAL, state="cooldown", until=NOW + 10.0003)
        client.operator.feed.attempt_ended(failed("local/koboldcpp", NOW, ErrorClass.OVERLOADED))
        client.operator.feed.attempt_ended(failed("local/koboldcpp", NOW, ErrorClass.OVERLOADED))
        rows = [(await anext(events))[0] for _ in range(2)]
        client.operator.level = "debug"
        name, data = await anext(events)

    assert rows == ["row", "row"]
    assert (name, data["level"]) == ("board", "debug")


async def test_usage_comes_per_provider_and_span() -> None:
    async with operator_client() as client:
        client.operator.ledger.replies = [
            reply("r1", NOW - 60, attempt("local/koboldcpp", ts=NOW - 60))
        ]
        status, hour = await client.get("/api/operator/usage?span=hour")
        _, month = await client.get("/api/operator/usage?span=month")
        bad, refusal = await client.get("/api/operator/usage?span=year")

    assert status == 200
    series = hour["series"]
    assert isinstance(series, dict)
    assert series["local"][0]["tokens"] == 412 + 57
    assert series["local"][0]["cost"] is None
    assert month["step"] == 86_400
    assert bad == 400
    assert "month" in str(refusal["error"])


async def test_a_reply_is_found_by_its_id_with_every_attempt() -> None:
    async with operator_client() as client:
        first = failed("openrouter", NOW, ErrorClass.RATE_LIMITED)
        second = attempt("local/koboldcpp", ts=NOW + 0.04)
        client.operator.ledger.replies = [reply("r1", NOW, first, second)]
        status, found = await client.get("/api/operator/replies/r1")
        missing, refusal = await client.get("/api/operator/replies/nope")

    runs = found["runs"]
    assert isinstance(runs, list)
    assert status == 200
    assert [row["verdict"] for row in runs[0]["attempts"]] == ["rate-limited", "answered"]
    assert missing == 404
    assert refusal["error"]


async def test_each_action_takes_effect() -> None:
    async with operator_client() as client:
        assert (await client.post("/api/operator/level", {"level": "debug"}))[0] == 200
        assert (await client.post("/api/operator/level", {"level": "loud"}))[0] == 400
        assert (await client.post("/api/operator/reset", {"provider": "local"}))[0] == 200
        assert (await client.post("/api/operator/reset", {}))[0] == 200
        assert (await client.post("/api/operator/reset", {"provider": "unknown"}))[0] == 404
        assert (await client.post("/api/operator/reset", {"provider": ["local"]}))[0] == 404
        assert (await client.post("/api/operator/reload", {}))[0] == 200
        client.operator.broken_config = True
        status, refusal = await client.post("/api/operator/reload", {})

    assert client.operator.level == "debug"
    assert client.operator.resets == ["local", None]
    assert status == 409
    assert "line 3" in str(refusal["error"])


async def test_a_page_opened_later_receives_the_last_attempts() -> None:
    async with operator_client() as client:
        client.operator.ledger.replies = [reply("r1", NOW, attempt("local/koboldcpp", ts=NOW))]
        events = client.events()
        names = [(await anext(events))[0] for _ in range(3)]

    assert names == ["start", "row", "board"]


GETS = ("attempts", "log", "config", "keys", "servers", "usage/model", "about")
POSTS = (
    "test",
    "reload",
    "reset",
    "level",
    "login-link",
    "config",
    "keys",
    "keys/limit",
    "keys/revoke",
)


async def test_every_part_of_the_page_needs_the_operators_login() -> None:
    async with operator_client() as client, aiohttp.ClientSession() as stranger:
        statuses = []
        for path in GETS:
            async with stranger.get(f"{client.url}/api/operator/{path}") as answer:
                statuses.append(answer.status)
        for path in POSTS:
            async with stranger.post(f"{client.url}/api/operator/{path}", json={}) as answer:
                statuses.append(answer.status)

    assert statuses == [401] * len(GETS + POSTS)


async def test_another_site_changes_nothing_even_with_the_operators_login() -> None:
    headers = {"Origin": "https://evil.example"}
    async with operator_client() as client:
        statuses = []
        for path in POSTS:
            url = f"{client.url}/api/operator/{path}"
            async with client.http.post(url, json={}, headers=headers) as answer:
                statuses.append(answer.status)

    assert statuses == [403] * len(POSTS)
    operator = client.operator
    assert [*operator.tests, *operator.resets, *operator.keys] == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("page=1&until=1790000000&text=a+b&outcome=ok", 200),
        ("page=x", 400),
        ("page=-1", 400),
        ("page=99999999", 400),
        ("until=" + "9" * 5000, 400),
        ("outcome=good", 400),
    ],
)
async def test_a_search_for_attempts_checks_its_parameters(query: str, status: int) -> None:
    async with operator_client() as client:
        assert (await client.get(f"/api/operator/attempts?{query}"))[0] == status


async def test_a_test_of_an_unknown_server_is_refused() -> None:
    async with operator_client() as client:
        status, _ = await client.post("/api/operator/test", {"provider": "ghost"})

    assert status == 404
    assert client.operator.tests == []
