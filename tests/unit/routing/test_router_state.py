"""What the pages see of the router, and the polling that brings engines at home back."""

import asyncio

import pytest

from understudy.errors import ErrorClass, HoldScope, leaf_of
from understudy.llm.capabilities import Capabilities
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.testing import SILENCE, Script, ScriptedClient, saying
from understudy.routing.candidates import Candidate
from understudy.routing.cooldown import State
from understudy.routing.fair_queue import FairQueue
from understudy.routing.records import Outcome, SkipReason
from unit.routing.router_driver import Observed, calls, candidate, reply, router, wanted

GOOD = saying("Hello", " there")


def failing(error_class: ErrorClass, **facts: object) -> Script:
    return (leaf_of(error_class)(error_class, **facts),)  # type: ignore[arg-type]


def client(one: Candidate) -> ScriptedClient:
    assert isinstance(one.client, ScriptedClient)
    return one.client


async def test_the_status_names_what_rests_why_and_until_when() -> None:
    limited = candidate("a", failing(ErrorClass.RATE_LIMITED, retry_after_s=30.0))
    off = candidate("c", GOOD, off=SkipReason.NO_KEY)
    model = router([limited, candidate("b", GOOD), off])
    await reply(model)

    first, second, third = model.status()

    assert (first.state, first.scope) == (State.OPEN, HoldScope.KEY)
    assert (first.cause, first.until) == (ErrorClass.RATE_LIMITED, 1e9 + 30)
    assert second.state is State.CLOSED
    assert third.off is SkipReason.NO_KEY


async def test_the_status_counts_attempts_under_way() -> None:
    busy = candidate("a", (SILENCE,))
    model = router([busy])
    task = asyncio.create_task(reply(model))
    await asyncio.sleep(1)

    running = model.status()[0].running
    task.cancel()
    await asyncio.wait([task])

    assert (running, model.status()[0].running) == (1, 0)


async def test_the_queue_of_a_server_has_the_places_of_the_model_that_is_asked() -> None:
    known, unknown = (
        candidate(f"home/{name}", GOOD, local=True, endpoint="http://home.test")
        for name in ("known", "unknown")
    )
    model = router([known, unknown])
    model.memory.book.discover(known.key, Capabilities(slots=4))

    sizes = []
    for one in (known, unknown, known):
        await reply(model, wanted(order=(one.name,)))
        sizes += [queue.size for queue in model.memory.queues.values()]

    assert sizes == [4, 1, 4]


async def test_an_operator_ends_the_cooldowns_of_one_provider() -> None:
    limited = [
        candidate(name, failing(ErrorClass.RATE_LIMITED, retry_after_s=60.0), GOOD) for name in "ab"
    ]
    model = router([*limited, candidate("c", GOOD)])
    await reply(model)

    model.reset("b")

    assert (await reply(model)).story == ["a cooldown", "b ok"]


async def test_a_local_engine_that_is_down_is_polled_and_nobody_pays() -> None:
    home = candidate("home", failing(ErrorClass.CONNECT_REFUSED), GOOD, local=True)
    client(home).report = ProbeReport(ProbeState.UNREACHABLE)
    model = router([home, candidate("b", GOOD)])
    await reply(model)

    for _ in range(30):
        await asyncio.sleep(2)
        assert (await reply(model)).story == ["home cooldown", "b ok"]
    client(home).report = ProbeReport(ProbeState.READY, context_length=4096)
    await asyncio.sleep(11)

    assert (await reply(model)).story == ["home ok"]
    assert calls(home) == 2
    assert client(home).probes > 5
    await model.memory.aclose()


async def test_loading_is_polled_every_two_seconds() -> None:
    home = candidate("home", failing(ErrorClass.LOADING, http_status=503), GOOD, local=True)
    client(home).report = ProbeReport(ProbeState.LOADING)
    model = router([home, candidate("b", GOOD)])
    await reply(model)
    await asyncio.sleep(20.5)
    client(home).report = ProbeReport(ProbeState.READY)
    await asyncio.sleep(2)

    assert (await reply(model)).story == ["home ok"]
    assert client(home).probes == 11
    await model.memory.aclose()


async def test_where_there_is_no_health_page_the_next_request_finds_out() -> None:
    home = candidate("home", failing(ErrorClass.CONNECT_REFUSED), GOOD, local=True)
    client(home).report = ProbeReport(ProbeState.BROKEN, health_endpoint=False)
    model = router([home, candidate("b", GOOD)])
    await reply(model)
    await asyncio.sleep(12)

    assert (await reply(model)).story == ["home ok"]
    await model.memory.aclose()


async def test_a_busy_local_engine_is_queued_for_and_then_passed_by() -> None:
    home = candidate("home", (SILENCE,), GOOD, local=True)
    model = router([home, candidate("b", GOOD)])
    first = asyncio.create_task(reply(model))
    await asyncio.sleep(1)

    second = await reply(model)
    first.cancel()
    await asyncio.wait([first])

    assert second.story == ["home queue_timeout", "b ok"]
    assert second.took_s == 2


async def test_the_only_server_is_waited_for_and_turns_are_fair() -> None:
    slow: Script = (asyncio.Event(), *GOOD)
    release = slow[0]
    assert isinstance(release, asyncio.Event)
    home = candidate("home", slow, GOOD, local=True)
    model = router([home])
    order: list[str] = []

    async def ask(channel: str) -> None:
        await reply(model, wanted(queue_key=channel))
        order.append(channel)

    tasks = [asyncio.create_task(ask(channel)) for channel in ("a", "a", "a", "b")]
    await asyncio.sleep(5)
    release.set()
    await asyncio.gather(*tasks)

    assert order == ["a", "a", "b", "a"]


@pytest.mark.parametrize("channels", ["bb", "bc"])
async def test_who_leaves_the_queue_in_the_moment_of_their_turn_is_gone_and_the_next_is_let_in(
    channels: str,
) -> None:
    queue, entered = FairQueue(1, 9), list[str]()

    async def stand(channel: str) -> None:
        await queue.acquire(channel, 60)
        entered.append(channel)
        queue.release()

    await queue.acquire("a", 60)
    leaving, staying = (asyncio.create_task(stand(channel)) for channel in channels)
    await asyncio.sleep(0)
    leaving.cancel()
    queue.release()
    await asyncio.wait([leaving, staying])

    assert leaving.cancelled()
    assert entered == [channels[1]]
    assert (queue.inside, queue.waiting) == (0, 0)


async def test_who_gives_up_in_the_queue_leaves_one_record_and_no_gap() -> None:
    watching, home = Observed(), candidate("home", (SILENCE,), GOOD, local=True)
    model = router([home], None, watching)
    first = asyncio.create_task(reply(model))
    await asyncio.sleep(1)
    second = asyncio.create_task(reply(model))
    await asyncio.sleep(1)

    second.cancel()
    await asyncio.wait([second])
    first.cancel()
    await asyncio.wait([first])

    assert [a.outcome for a in watching.attempts] == [Outcome.CANCELLED] * 2
    assert {a.phase.value for a in watching.attempts} == {"queue", "first_token"}
    assert (await reply(model)).story == ["home ok"]
