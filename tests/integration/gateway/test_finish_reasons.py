"""The finish reason that gateway clients get for each word of a model server."""

import json

import aiohttp
import pytest

from gateway_setup import GatewayAndServers, gateway_and_servers

LINE = "say:The lamp is lit tonight."
QUESTION: dict[str, object] = {
    "model": "understudy",
    "messages": [{"role": "user", "content": "hi"}],
}


async def ask(here: GatewayAndServers, *, stream: bool) -> tuple[str, list[str]]:
    """Return the text and every finish reason."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{here.url}/chat/completions", json={**QUESTION, "stream": stream}) as response,
    ):
        body = await response.text()
    payloads = [line[6:] for line in body.split("\n") if line.startswith("data: {")] or [body]
    choices = [choice for payload in payloads for choice in json.loads(payload)["choices"]]
    told = [choice.get("delta") or choice.get("message") or {} for choice in choices]
    words = [choice["finish_reason"] for choice in choices if choice["finish_reason"] is not None]
    return "".join(piece.get("content") or "" for piece in told), words


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("word", "reason"),
    [("end_turn", "stop"), ("MAX_TOKENS", "length"), ("eos", "stop"), ("sunrise", "stop")],
)
async def test_the_word_is_one_of_the_openai_format(word: str, reason: str, stream: bool) -> None:
    async with gateway_and_servers(f"finish:{word}", LINE) as here:
        text, reasons = await ask(here, stream=stream)

    assert len(text.split()) == 5
    assert reasons == [reason]


@pytest.mark.parametrize(
    "part", ["finish:network_error", "finish:abort", "blankcut", "texterr", "donecut"]
)
async def test_half_an_answer_never_ends_with_stop(part: str) -> None:
    async with gateway_and_servers(part, LINE) as here:
        streamed = await ask(here, stream=True)
        whole = await ask(here, stream=False)

    assert len(streamed[0].split()) == 5
    assert streamed[1] == ["error"]
    assert whole == ("The lamp is lit tonight.", ["stop"])


@pytest.mark.parametrize("stream", [True, False])
async def test_a_last_frame_that_repeats_the_reply_does_not_double_it(stream: bool) -> None:
    async with gateway_and_servers("repeats") as here:
        text, reasons = await ask(here, stream=stream)

    assert (text, reasons) == ("Here it is.", ["stop"])


async def test_a_server_may_be_configured_to_end_replies_with_done_alone() -> None:
    async with gateway_and_servers("donecut", presets={"first": "lenient"}) as here:
        text, reasons = await ask(here, stream=True)

    assert len(text.split()) == 5
    assert reasons == ["stop"]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_word_in_every_frame_does_not_end_the_reply(stream: bool) -> None:
    async with gateway_and_servers("blankfinish", LINE) as here:
        text, reasons = await ask(here, stream=stream)

        assert here.servers[1].calls == 0
    assert len(text.split()) > 5
    assert reasons == ["stop"]
