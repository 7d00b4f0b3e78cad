"""What clients of the gateway see when model servers fail."""

import json

import aiohttp
import pytest

from gateway_setup import GatewayAndServers, gateway_and_servers
from understudy.rehearsal.script import in_turn

LINE = "say:The lamp is lit tonight."
ASK: dict[str, object] = {
    "model": "understudy",
    "messages": [{"role": "user", "content": "hi"}],
}
STREAM = {**ASK, "stream": True}


async def ask(here: GatewayAndServers, body: object) -> tuple[int, dict[str, str], str]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{here.url}/chat/completions", json=body) as response,
    ):
        return response.status, dict(response.headers), await response.text()


def text_of(body: str) -> str:
    if not body.startswith("data:"):
        return str(json.loads(body)["choices"][0]["message"]["content"])
    frames = [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]
    return "".join(
        choice["delta"].get("content") or "" for frame in frames for choice in frame["choices"]
    )


@pytest.mark.parametrize("body", [ASK, STREAM])
@pytest.mark.parametrize("fault", ["e503", "e401", "reset", "err200", "empty", "firsterr"])
async def test_the_second_server_answers_when_the_first_cannot(fault: str, body: object) -> None:
    async with gateway_and_servers(fault, LINE) as here:
        status, headers, answer = await ask(here, body)

    assert status == 200
    assert text_of(answer) == "The lamp is lit tonight."
    assert headers["x-router-provider"] == "second"
    assert int(headers["x-router-attempts"]) >= 2


async def test_a_client_that_does_not_stream_never_sees_half_an_answer() -> None:
    async with gateway_and_servers("cut", LINE) as here:
        status, _, answer = await ask(here, ASK)

    assert status == 200
    assert text_of(answer) == "The lamp is lit tonight."


async def test_a_stream_that_breaks_off_says_so_and_is_not_joined_with_another() -> None:
    async with gateway_and_servers("cut", LINE) as here:
        status, headers, answer = await ask(here, STREAM)

        assert here.servers[1].calls == 0
    assert status == 200
    assert headers["x-router-provider"] == "first"
    assert '"finish_reason":"error"' in answer
    assert '"error":{"message"' in answer
    assert answer.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_when_nobody_can_answer_the_status_says_so(body: object) -> None:
    async with gateway_and_servers("e503", "e503") as here:
        status, headers, answer = await ask(here, body)

    assert status == 503
    assert json.loads(answer)["error"]["code"] == "all_down"
    assert headers["x-router-request-id"]


async def test_one_provider_can_be_asked_alone() -> None:
    async with gateway_and_servers(LINE, "say:Second here.") as here:
        _, _, answer = await ask(here, {**ASK, "model": "second/lab/model"})

        assert text_of(answer) == "Second here."
        assert here.servers[0].calls == 0


async def test_fields_nobody_knows_reach_the_model_server_as_they_came() -> None:
    odd = {"dry_multiplier": 0.8, "response_format": {"type": "json_object"}, "x": [None, {}]}
    async with gateway_and_servers(LINE) as here:
        await ask(here, {**ASK, **odd})

        assert {name: here.asked[name] for name in odd} == odd


async def test_a_repair_of_the_replys_length_is_not_undone_by_the_clients_own() -> None:
    async with gateway_and_servers(in_turn("e402less", LINE)) as here:
        status, _, answer = await ask(here, {**ASK, "max_completion_tokens": 100_000})

    assert (status, text_of(answer)) == (200, "The lamp is lit tonight.")
    asked = here.asked
    assert 0 < int(str(asked["max_tokens"])) < 100_000
    assert "max_completion_tokens" not in asked
