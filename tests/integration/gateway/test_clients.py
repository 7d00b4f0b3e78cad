"""Programs that speak OpenAI's protocol use the gateway unchanged."""

import asyncio
import json
import shutil
from typing import TYPE_CHECKING

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionToolParam, ChatCompletionUserMessageParam
from pydantic import SecretStr

from gateway_setup import gateway_and_servers
from understudy.config.settings import Gateway as GatewaySettings
from understudy.config.settings import GatewayKey

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

KEYED = GatewaySettings(keys=(GatewayKey(name="sdk", key=SecretStr("sk-mine")),))
LINE = "say:The lamp is lit tonight."
HI: ChatCompletionUserMessageParam = {"role": "user", "content": "hi"}
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}


def sdk(url: str, key: str = "sk-mine") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url, api_key=key, max_retries=0)


def langchain(url: str) -> "ChatOpenAI":
    from langchain_openai import ChatOpenAI  # takes a second

    return ChatOpenAI(base_url=url, api_key=SecretStr("sk-mine"), model="understudy")


async def test_the_openai_sdk_reads_a_whole_answer() -> None:
    async with gateway_and_servers(LINE, settings=KEYED) as here, sdk(here.url) as client:
        answer = await client.chat.completions.create(
            model="understudy", messages=[HI], temperature=0.2
        )

        assert answer.choices[0].message.content == "The lamp is lit tonight."
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5
        assert here.asked["temperature"] == 0.2
        assert here.asked["model"] == "lab/model"


async def test_the_openai_sdk_reads_a_stream_with_usage() -> None:
    async with gateway_and_servers(LINE, settings=KEYED) as here, sdk(here.url) as client:
        stream = await client.chat.completions.create(
            model="gpt-4o", messages=[HI], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "The lamp is lit tonight."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None


async def test_the_openai_sdk_lists_models() -> None:
    async with gateway_and_servers(LINE, "ok", settings=KEYED) as here, sdk(here.url) as client:
        names = [model.id async for model in client.models.list()]

        assert names == ["understudy", "first/lab/model", "second/lab/model"]
        assert (await client.models.retrieve("second/lab/model")).object == "model"


async def test_the_openai_sdk_gets_tool_calls() -> None:
    async with gateway_and_servers("tool", settings=KEYED) as here, sdk(here.url) as client:
        answer = await client.chat.completions.create(
            model="understudy", messages=[HI], tools=[TOOL]
        )

        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].type == "function"
        assert json.loads(calls[0].function.arguments) == {"what": "weather"}
        assert here.asked["tools"] == [TOOL]


async def test_the_openai_sdk_streams_tool_calls() -> None:
    async with (
        gateway_and_servers("tool", settings=KEYED) as here,
        sdk(here.url) as client,
        client.chat.completions.stream(model="understudy", messages=[HI], tools=[TOOL]) as stream,
    ):
        answer = await stream.get_final_completion()

    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "look_up"


async def test_the_openai_sdk_raises_its_own_errors() -> None:
    async with (
        gateway_and_servers("e429long", settings=KEYED) as here,
        sdk(here.url) as client,
        sdk(here.url, "sk-wrong") as stranger,
    ):
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="understudy", messages=[HI])
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(model="understudy", messages=[HI])
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="understudy", messages=[])

    assert limited.value.code == "all_rate_limited"
    assert 20 <= int(limited.value.response.headers["retry-after"]) <= 40


async def test_the_openai_sdk_notices_a_stream_that_breaks_off() -> None:
    async with gateway_and_servers("cut", settings=KEYED) as here, sdk(here.url) as client:
        stream = await client.chat.completions.create(
            model="understudy", messages=[HI], stream=True
        )
        with pytest.raises(openai.APIError):
            async for _chunk in stream:
                pass


async def test_langchain_asks_and_streams() -> None:
    async with gateway_and_servers(LINE, settings=KEYED) as here:
        answer = await langchain(here.url).ainvoke("hi", stop=["\n"])
        pieces = [piece async for piece in langchain(here.url).astream("hi")]

        assert answer.text == "The lamp is lit tonight."
        assert "".join(piece.text for piece in pieces) == "The lamp is lit tonight."
        assert here.servers[0].seen.asked[0].body["stop"] == ["\n"]


async def test_langchain_binds_tools() -> None:
    async with gateway_and_servers("tool", settings=KEYED) as here:
        answer = await langchain(here.url).bind_tools([dict(TOOL)]).ainvoke("hi")

    assert answer.tool_calls[0]["name"] == "look_up"
    assert answer.tool_calls[0]["args"] == {"what": "weather"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_streams_from_loopback_without_a_key() -> None:
    async with gateway_and_servers(LINE) as here:
        ask = json.dumps({"stream": True, "messages": [HI]})
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sNi", f"{here.url}/chat/completions", "-d", ask),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await curl.communicate()

    assert b"200 OK" in out
    assert b"x-router-provider: first" in out
    assert out.rstrip().endswith(b"data: [DONE]")


async def test_sillytavern_lists_streams_and_stops() -> None:
    headers = {"Authorization": "Bearer sk-mine", "Content-Type": "application/json"}
    ask = {
        "messages": [
            {"role": "system", "content": "Write Ann's next reply."},
            {"role": "user", "content": "hi", "name": "Ben"},
        ],
        "model": "understudy",
        "temperature": 1,
        "max_tokens": 300,
        "stream": True,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_p": 1,
        "stop": ["\nBen:"],
        "min_p": 0.05,
    }
    async with (
        gateway_and_servers("ok:0.05", settings=KEYED) as here,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        async with http.get(f"{here.url}/models") as response:
            assert "understudy" in [row["id"] for row in (await response.json())["data"]]
        async with http.post(f"{here.url}/chat/completions", json=ask) as response:
            assert response.content_type == "text/event-stream"
            assert (await response.content.readuntil(b"\n\n")).startswith(b"data: {")
            response.close()  # its stop button hangs up
        await here.servers[0].until(lambda seen: len(seen.disconnects) == 1)

        assert here.asked["min_p"] == 0.05
        assert here.asked["stop"] == ["\nBen:"]


async def test_open_webui_lists_chats_and_asks_for_a_title() -> None:
    headers = {"Authorization": "Bearer sk-mine", "X-OpenWebUI-User-Name": "Ann"}
    chat = {
        "stream": True,
        "model": "first/lab/model",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "stream_options": {"include_usage": True},
    }
    title = {
        "model": "first/lab/model",
        "messages": [{"role": "user", "content": "Write a title."}],
        "stream": False,
        "max_completion_tokens": 1000,
    }
    async with (
        gateway_and_servers(LINE, settings=KEYED) as here,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        async with http.get(f"{here.url}/models") as response:
            assert (await response.json())["object"] == "list"
        async with http.post(f"{here.url}/chat/completions", json=chat) as response:
            body = await response.text()
        async with http.post(f"{here.url}/chat/completions", json=title) as response:
            answer = await response.json()

    assert '"usage"' in body
    assert body.endswith("data: [DONE]\n\n")
    assert answer["choices"][0]["message"]["content"] == "The lamp is lit tonight."
