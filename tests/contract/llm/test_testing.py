"""The shipped double keeps the contract that every engine keeps."""

import asyncio

import pytest

from understudy.errors import ErrorClass, ProviderError, leaf_of
from understudy.llm.client import Exchange, Phase, ProbeReport, ProbeState, stream_events
from understudy.llm.messages import ChatEvent, ChatRequest, Finished, TextDelta, Usage
from understudy.llm.testing import SILENCE, ScriptedClient, saying

ASKED = ChatRequest(())


async def heard(client: ScriptedClient, exchange: Exchange | None = None) -> list[ChatEvent]:
    return [event async for event in stream_events(client, ASKED, "m", exchange or Exchange())]


async def test_a_reply_is_streamed_to_its_end_with_its_usage() -> None:
    exchange = Exchange()
    events = await heard(ScriptedClient([saying("Hi", usage=Usage(5, 2))]), exchange)

    assert events == [TextDelta("Hi"), Finished("stop", Usage(5, 2))]
    assert exchange.usage == Usage(5, 2)


@pytest.mark.parametrize("error_class", list(ErrorClass))
async def test_a_failure_has_its_class(error_class: ErrorClass) -> None:
    client = ScriptedClient([(TextDelta("Hi"), leaf_of(error_class)(error_class))])
    with pytest.raises(ProviderError) as caught:
        await heard(client)

    assert caught.value.error_class is error_class
    assert client.calls[0].ended


async def test_leaving_in_the_middle_ends_the_call() -> None:
    client = ScriptedClient([(TextDelta("Hi"), SILENCE)])
    exchange = Exchange()
    stream = stream_events(client, ASKED, "m", exchange)
    await anext(stream)
    await stream.aclose()

    assert client.calls[0].ended
    assert exchange.phase is Phase.STREAMING


async def test_being_cancelled_ends_the_call() -> None:
    client = ScriptedClient([(SILENCE,)])
    task = asyncio.create_task(heard(client))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.calls[0].ended


async def test_a_probe_reports_what_it_was_given() -> None:
    report = ProbeReport(ProbeState.READY, context_length=4096, vision=True)

    assert await ScriptedClient([saying("Hi")], report=report).probe("m") == report
    assert await ScriptedClient([saying("Hi")], tokens=7).count_tokens(ASKED, "m") == 7
