"""Tool calls of every shape, as programs read them from the gateway with their usual libraries."""

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionUserMessageParam
from pydantic import SecretStr

from vendor_gateway import gateway_before, seen
from vendor_replies import CALLS, DONE, RICH, ROLE, STOP, Json, frame

HI: ChatCompletionUserMessageParam = {"role": "user", "content": "Say it, please."}


def named(call_id: str, expected: object) -> object:
    """Return `True` for an id of ours where one is expected."""
    return call_id.startswith("call_") if expected is True else call_id


def stream_of(deltas: tuple[Json, ...]) -> bytes:
    return ROLE + b"".join(map(frame, deltas)) + STOP + DONE


@pytest.mark.parametrize(("deltas", "calls"), CALLS)
async def test_streamed_and_whole_calls_are_the_same(
    deltas: tuple[Json, ...], calls: list[tuple[object, ...]]
) -> None:
    got = await seen(stream_of(deltas))

    for answer in (got.streamed, got.whole):
        assert answer.finish == "tool_calls"
        assert [
            (named(found[0], call[0]), *found[1:])
            for found, call in zip(answer.calls.values(), calls, strict=True)
        ] == calls


async def read_by_openai(body: bytes) -> tuple[ChatCompletion, ChatCompletion]:
    """Return what the SDK makes of the stream, and of the answer in one piece."""
    async with gateway_before(body) as url, AsyncOpenAI(base_url=url, api_key="x") as client:
        async with client.chat.completions.stream(model="m", messages=[HI]) as stream:
            streamed = await stream.get_final_completion()
        whole = await client.chat.completions.create(model="m", messages=[HI])
    return streamed, whole


def calls_in(answer: ChatCompletion) -> list[tuple[str, str, str]]:
    return [
        (call.id, call.function.name, call.function.arguments)
        for call in answer.choices[0].message.tool_calls or ()
        if call.type == "function"
    ]


FUNCTIONS = [row for row in CALLS if "custom" not in str(row[0])]
"""The SDK for Python joins no custom tools."""


@pytest.mark.parametrize(("deltas", "calls"), FUNCTIONS)
async def test_the_openai_sdk_reads_the_same_calls_both_ways(
    deltas: tuple[Json, ...], calls: list[tuple[object, ...]]
) -> None:
    for answer in await read_by_openai(stream_of(deltas)):
        found = calls_in(answer)
        assert [
            (named(one[0], call[0]), *one[1:]) for one, call in zip(found, calls, strict=True)
        ] == calls
        assert answer.choices[0].finish_reason == "tool_calls"


async def test_the_openai_sdk_reads_everything_at_once() -> None:
    for answer in await read_by_openai(RICH):
        message = answer.choices[0].message.to_dict()
        assert message["content"] == "Hi there."
        assert [call[0] for call in calls_in(answer)] == ["a", "b"]
        assert str(message["images"]).count("base64") == 2
        assert str(message["annotations"]).count("example.org") == 3
        assert message["reasoning"] == "Hm."


async def test_langchain_reads_everything_at_once() -> None:
    from langchain_core.messages import AIMessageChunk  # takes a second
    from langchain_openai import ChatOpenAI

    async with gateway_before(RICH) as url:
        chat = ChatOpenAI(base_url=url, api_key=SecretStr("x"), model="m", stream_usage=True)
        whole = await chat.ainvoke("Say it, please.")
        streamed = AIMessageChunk(content="")
        async for piece in chat.astream("Say it, please."):
            streamed += piece

    for message in (whole, streamed):
        assert message.text == "Hi there."
        assert [(call["id"], call["name"], call["args"]) for call in message.tool_calls] == [
            ("a", "f", {"x": 1}),
            ("b", "f", {"x": 1}),
        ]
        assert message.usage_metadata is not None
        assert message.usage_metadata["output_tokens"] == 9
