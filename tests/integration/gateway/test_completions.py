"""Going on from a bare prompt, by the same order with the same failover."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI, RateLimitError
from pydantic import SecretStr

from gateway_setup import GatewayAndServers, gateway_and_servers, gateway_over
from llama_server import llama_server
from tiny_model import make_tiny_model
from understudy.config.providers import NamedServer
from understudy.config.settings import Gateway as GatewaySettings
from understudy.config.settings import GatewayKey
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.registry import build_client
from understudy.routing.candidates import Candidate

LINE = "say:and the lamp is lit."
ASK: dict[str, object] = {"model": "understudy", "prompt": "The night falls,"}
STREAM = {**ASK, "stream": True}


async def post(here: GatewayAndServers, body: object) -> tuple[int, dict[str, str], str]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{here.url}/completions", json=body) as response,
    ):
        return response.status, dict(response.headers), await response.text()


def frames_of(body: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]


def text_of(body: str) -> str:
    answers = frames_of(body) if body.startswith("data:") else [json.loads(body)]
    return "".join(choice["text"] for answer in answers for choice in answer["choices"])


@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_a_text_goes_on_in_the_older_shape(body: dict[str, object]) -> None:
    async with gateway_and_servers(LINE) as here:
        status, headers, answer = await post(here, body)

        assert (status, text_of(answer)) == (200, "and the lamp is lit.")
        assert here.servers[0].seen.asked[-1].path == "/v1/completions"
    first = frames_of(answer)[0] if body is STREAM else json.loads(answer)
    assert first["object"] == "text_completion"
    assert headers["x-router-provider"] == "first"


async def test_everything_but_what_the_router_decides_reaches_the_server_as_it_came() -> None:
    more = {"stop": ["\n"], "echo": True, "logprobs": 2, "suffix": "!", "dry_multiplier": 0.8}
    async with gateway_and_servers(LINE) as here:
        await post(here, {**ASK, **more, "n": 3, "best_of": 3, "messages": []})

        assert here.asked == {
            "prompt": "The night falls,",
            "model": "lab/model",
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }


@pytest.mark.parametrize("body", [ASK, STREAM])
@pytest.mark.parametrize("fault", ["e503", "e401", "reset", "err200", "empty", "e404"])
async def test_the_second_server_goes_on_when_the_first_cannot(
    fault: str, body: dict[str, object]
) -> None:
    async with gateway_and_servers(fault, LINE) as here:
        status, headers, answer = await post(here, body)

    assert (status, text_of(answer)) == (200, "and the lamp is lit.")
    assert headers["x-router-provider"] == "second"


async def test_a_stream_that_breaks_off_ends_with_an_error_in_its_own_shape() -> None:
    async with gateway_and_servers("cut", LINE) as here:
        _, _, answer = await post(here, STREAM)

    last = frames_of(answer)[-1]
    assert last["object"] == "text_completion"
    assert last["choices"][0]["finish_reason"] == "error"
    assert last["error"]["code"] == "truncated_stream"
    assert answer.endswith("data: [DONE]\n\n")


async def test_servers_that_know_only_chats_are_left_out() -> None:
    async with gateway_and_servers("ok", LINE, presets={"first": "groq"}) as here:
        _, headers, _ = await post(here, ASK)

        assert (headers["x-router-provider"], here.servers[0].calls) == ("second", 0)


async def test_no_server_that_goes_on_is_the_clients_matter() -> None:
    async with gateway_and_servers("ok", presets={"first": "groq"}) as here:
        status, _, answer = await post(here, STREAM)

    assert (status, json.loads(answer)["error"]["code"]) == (400, "no_completions")


async def test_a_missing_page_is_learned_and_chats_go_on_there() -> None:
    async with gateway_and_servers("e404, say:Hello.", LINE) as here:
        await post(here, ASK)
        await post(here, ASK)
        chat = {"messages": [{"role": "user", "content": "hi"}]}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{here.url}/chat/completions", json=chat) as response,
        ):
            assert response.headers["x-router-provider"] == "first"

        assert here.servers[0].calls == 2


@pytest.mark.parametrize("prompt", [["a", "b"], [], [1, 2], [[1, 2]], 5, None, {}])
async def test_a_prompt_that_is_not_one_text_is_refused(prompt: object) -> None:
    async with gateway_and_servers(LINE) as here:
        status, _, answer = await post(here, {"prompt": prompt})

        error = json.loads(answer)["error"]
        assert (status, error["param"], here.servers[0].calls) == (400, "prompt", 0)


async def test_a_prompt_alone_in_a_list_is_that_prompt() -> None:
    async with gateway_and_servers(LINE) as here:
        await post(here, {"prompt": ["The night falls,"]})

        assert here.asked["prompt"] == "The night falls,"


async def test_keys_and_limits_hold_here_too() -> None:
    key = GatewayKey(name="one", key=SecretStr("sk-one"), requests_per_day=1)
    async with gateway_and_servers(LINE, settings=GatewaySettings(keys=(key,))) as here:
        status, _, _ = await post(here, ASK)
        async with AsyncOpenAI(base_url=here.url, api_key="sk-one", max_retries=0) as client:
            answer = await client.completions.create(model="understudy", prompt="The night falls,")
            with pytest.raises(RateLimitError):
                await client.completions.create(model="understudy", prompt="The night falls,")

    assert status == 401
    assert answer.choices[0].text == "and the lamp is lit."
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


async def test_thoughts_in_a_bare_text_stay_where_the_model_wrote_them() -> None:
    async with gateway_and_servers("say:<think>dark</think>light <|im_end|>") as here:
        _, _, answer = await post(here, ASK)

    assert text_of(answer) == "<think>dark</think>light <|im_end|>"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", ends=False)
    with llama_server(model) as url:
        yield url


@asynccontextmanager
async def llama_world(url: str) -> AsyncIterator[str]:
    sessions = HttpSessions()
    entry = NamedServer(engine="llama.cpp", base_url=url)
    client = build_client("home", entry, sessions=sessions)
    try:
        async with gateway_over([Candidate("home", "", "home", "llama.cpp", client)]) as served:
            yield served
    finally:
        await sessions.aclose()


async def test_a_real_llama_cpp_server_goes_on(llama: str) -> None:
    async with (
        llama_world(llama) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        asked = {"model": "understudy", "prompt": "the cat and the dog", "temperature": 0}
        whole = await client.completions.create(max_tokens=6, logprobs=1, **asked)  # type: ignore[call-overload]
        stream = await client.completions.create(
            max_tokens=6, stream=True, stream_options={"include_usage": True}, **asked
        )  # type: ignore[call-overload]
        chunks = [chunk async for chunk in stream]

    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert whole.choices[0].text.strip()
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens == 6
    assert len(whole.choices[0].logprobs.content) == 6


async def test_a_real_server_tells_a_chats_client_of_every_token(llama: str) -> None:
    async with (
        llama_world(llama) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        said = [{"role": "user", "content": "the cat and the dog"}]
        asked = {"model": "understudy", "messages": said, "max_tokens": 6, "logprobs": True}
        whole = await client.chat.completions.create(**asked)  # type: ignore[call-overload]
        stream = await client.chat.completions.create(stream=True, **asked)  # type: ignore[call-overload]
        told = [c.choices[0].logprobs async for c in stream if c.choices]

    tokens = [token.token for token in whole.choices[0].logprobs.content]
    assert "".join(tokens) == whole.choices[0].message.content
    assert sum(len(piece.content or ()) for piece in told if piece) == len(tokens) == 6


async def test_a_bare_prompt_too_long_for_a_real_server_names_the_reason(llama: str) -> None:
    async with llama_world(llama) as url, aiohttp.ClientSession() as http:
        body = {"prompt": "the cat " * 3000}
        async with http.post(f"{url}/completions", json=body) as response:
            answer = await response.json()

    assert (response.status, answer["error"]["code"]) == (400, "context_length_exceeded")
