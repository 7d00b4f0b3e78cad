"""What one client asks must not take a server from the others, nor be changed behind its back."""

import json

import aiohttp
import pytest

from gateway_setup import GatewayAndServers, gateway_and_servers

LINE = "say:The lamp is lit tonight."
QUESTION: dict[str, object] = {
    "model": "understudy",
    "messages": [{"role": "user", "content": "hi"}],
}


async def ask(here: GatewayAndServers, **members: object) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{here.url}/chat/completions", json=QUESTION | members) as response,
    ):
        return response.status, await response.text()


def finish_of(body: str) -> str:
    payloads = [line[6:] for line in body.split("\n") if line.startswith("data: {")] or [body]
    words = [
        choice["finish_reason"]
        for payload in payloads
        for choice in json.loads(payload)["choices"]
        if choice["finish_reason"]
    ]
    return ",".join(words)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("part", "reason", "members"),
    [
        ("empty", "stop", {"stop": ["The"]}),
        ("empty", "stop", {}),
        ("thinklong", "length", {"max_tokens": 1}),
        ("thinklong", "length", {"max_completion_tokens": 16}),
    ],
)
async def test_an_empty_answer_is_passed_on_where_no_other_server_has_one(
    part: str, reason: str, members: dict[str, object], stream: bool
) -> None:
    async with gateway_and_servers(part) as here:
        status, body = await ask(here, stream=stream, **members)

        assert here.servers[0].calls == 1
    assert status == 200
    assert finish_of(body) == reason


@pytest.mark.parametrize("stream", [True, False])
async def test_the_reasoning_of_an_empty_answer_is_passed_on(stream: bool) -> None:
    async with gateway_and_servers("thinklong") as here:
        _, body = await ask(here, stream=stream, max_tokens=8)

    assert "wants" in body
    assert "reasoning_content" in body


@pytest.mark.parametrize("members", [{"stop": "The"}, {"max_tokens": 1}])
async def test_empty_answers_a_client_asked_for_take_the_server_from_nobody(
    members: dict[str, object],
) -> None:
    async with gateway_and_servers("empty x8, " + LINE) as here:
        statuses = [(await ask(here, **members))[0] for _ in range(8)]
        status, body = await ask(here)

    assert statuses == [200] * 8
    assert (status, "lamp" in body) == (200, True)


async def test_a_clients_own_length_is_never_raised() -> None:
    async with gateway_and_servers("thinklong", "thinklong") as here:
        await ask(here, max_tokens=1)

        assert [server.last_body["max_tokens"] for server in here.servers] == [1, 1]
        assert [server.calls for server in here.servers] == [1, 1]


async def test_prompts_that_the_template_refuses_are_400_and_put_no_server_into_a_cooldown() -> (
    None
):
    async with gateway_and_servers("jinja x4, " + LINE) as here:
        refused = [await ask(here) for _ in range(4)]
        status, body = await ask(here)

    assert [status for status, _ in refused] == [400] * 4
    assert json.loads(refused[0][1])["error"]["code"] == "bad_request"
    assert (status, "lamp" in body) == (200, True)


async def test_several_choices_are_refused_with_the_reason() -> None:
    async with gateway_and_servers(LINE) as here:
        status, body = await ask(here, n=3)
        single, _ = await ask(here, n=1)

    error = json.loads(body)["error"]
    assert (status, single) == (400, 200)
    assert error["param"] == "n"
    assert "one reply" in error["message"]


async def test_an_unknown_model_of_a_known_provider_is_not_found() -> None:
    async with gateway_and_servers(LINE) as here:
        missing = await ask(here, model="first/typo")
        other = await ask(here, model="gpt-4o")
        known = await ask(here, model="first/lab/model")

    assert (missing[0], json.loads(missing[1])["error"]["code"]) == (404, "model_not_found")
    assert (other[0], known[0]) == (200, 200)


async def test_a_browser_may_send_the_headers_it_asks_for() -> None:
    asked = {
        "Origin": "https://chat.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-stainless-os, x-odd\u00e9",
    }
    async with (
        gateway_and_servers(LINE) as here,
        aiohttp.ClientSession() as http,
        http.options(f"{here.url}/chat/completions", headers=asked) as response,
    ):
        allowed = response.headers["access-control-allow-headers"].split(", ")

    assert allowed == ["authorization", "content-type", "x-api-key", "x-stainless-os"]


@pytest.mark.parametrize(
    "member",
    [b'"us\xffer": 1', b'"user": "\xff"', b'"user": "\xe2\x82"', b'"user": "\xed\xa0\x80"'],
)
async def test_a_body_that_is_not_utf_8_is_refused_without_asking_a_server(member: bytes) -> None:
    messages = b'"messages": [{"role": "user", "content": "hi"}]'
    async with gateway_and_servers(LINE) as here, aiohttp.ClientSession() as http:
        sent = b"{%b, %b}" % (member, messages)
        async with http.post(f"{here.url}/chat/completions", data=sent) as response:
            body = await response.json()

        calls = here.servers[0].calls
    assert (response.status, calls) == (400, 0)
    assert body["error"]["code"] == "invalid_request"
