"""Coming back: who finds out whether a server is well again, and what everyone else does."""

import asyncio

import pytest

from understudy.errors import ErrorClass, leaf_of
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.testing import SILENCE, Pause, Script, ScriptedClient, saying
from understudy.routing.candidates import Candidate
from understudy.routing.cooldown import State
from understudy.routing.environment import RouterRules
from understudy.routing.records import AttemptRole, OfflineReason
from understudy.routing.timeouts import Deadline
from unit.routing.router_driver import Seen, calls, candidate, reply, router, wanted

GOOD = saying("Hello", " there")


def failing(error_class: ErrorClass, **facts: object) -> Script:
    return (leaf_of(error_class)(error_class, **facts),)  # type: ignore[arg-type]


def limited(name: str, retry_after_s: float, *then: Script) -> Candidate:
    return candidate(name, failing(ErrorClass.RATE_LIMITED, retry_after_s=retry_after_s), *then)


def roles(seen: Seen) -> list[AttemptRole]:
    return [a.role for a in seen.end.record.attempts]


async def test_a_probe_gets_eight_seconds_at_most_while_others_could_answer() -> None:
    patient = limited("a", 5.0, (SILENCE,))
    model = router([patient, candidate("b", GOOD)])
    await reply(model)
    await asyncio.sleep(6)

    seen = await reply(model)

    assert roles(seen) == [AttemptRole.PROBE, AttemptRole.NORMAL]
    assert seen.took_s == pytest.approx(8.0)


async def test_a_probe_that_fails_doubles_the_hold_and_one_that_answers_ends_it() -> None:
    down = candidate("a", *[failing(ErrorClass.OVERLOADED)] * 3, GOOD)
    model = router([down, candidate("b", GOOD)])
    holds = []
    for _ in range(3):
        breaker = (await reply(model)).end.record.attempts[0].breaker
        assert breaker is not None
        holds.append(breaker.hold_s)
        await asyncio.sleep(breaker.hold_s + 0.1)
    healed = await reply(model)

    assert holds == pytest.approx([5, 10, 20], rel=0.21)
    assert healed.story == ["a ok"]
    assert model.status()[0].state is State.CLOSED


async def test_a_caller_who_leaves_during_a_probe_leaves_it_to_the_next() -> None:
    slow = limited("a", 5.0, (SILENCE,), GOOD)
    model = router([slow, candidate("b", GOOD)])
    await reply(model)
    await asyncio.sleep(6)
    leaving = asyncio.create_task(reply(model))
    await asyncio.sleep(1)
    meanwhile = await reply(model)
    leaving.cancel()
    await asyncio.wait([leaving])

    assert meanwhile.story == ["a cooldown", "b ok"]
    assert (await reply(model)).story == ["a ok"]


async def test_a_probe_that_never_ends_hands_its_lease_on_after_its_budget_and_five_seconds() -> (
    None
):
    talking: Script = (*saying("well ")[:-1], Pause(15), *GOOD)
    slow = limited("a", 5.0, talking, GOOD)
    model = router([slow, candidate("b", GOOD)])
    await reply(model)
    await asyncio.sleep(6)
    probe = asyncio.create_task(reply(model))
    await asyncio.sleep(12)
    during = await reply(model)
    await asyncio.sleep(2)
    after = await reply(model)
    await probe

    assert during.story == ["a cooldown", "b ok"]
    assert after.story == ["a ok"]


@pytest.mark.parametrize(
    "cause",
    [ErrorClass.AUTH, ErrorClass.QUOTA, ErrorClass.MODEL_GONE, ErrorClass.RATE_LIMITED],
)
async def test_what_will_not_have_passed_is_never_forced(cause: ErrorClass) -> None:
    down = candidate("a", failing(cause))
    model = router([down])
    await reply(model)

    seen = await reply(model)

    assert seen.story == ["a cooldown"]
    assert calls(down) == 1


async def test_forced_candidates_are_asked_once_each_and_in_order() -> None:
    busy = [candidate(name, failing(ErrorClass.OVERLOADED, retry_after_s=60.0)) for name in "abc"]
    model = router(busy)
    await reply(model)
    await asyncio.sleep(6)

    seen = await reply(model)

    forced = [a for a in seen.end.record.attempts if a.role is AttemptRole.FORCED]
    assert [a.provider for a in forced] == ["a", "b", "c"]
    assert [calls(one) for one in busy[:2]] == [2, 2]


async def test_of_a_crowd_that_finds_everything_down_one_forces_its_way() -> None:
    busy = candidate("a", failing(ErrorClass.OVERLOADED, retry_after_s=60.0))
    model = router([busy])
    await reply(model)
    await asyncio.sleep(6)
    before = calls(busy)

    crowd = await asyncio.gather(*(reply(model) for _ in range(30)))

    assert calls(busy) == before + 1
    assert {seen.end.record.offline_reason for seen in crowd} == {OfflineReason.ALL_DOWN}
    assert all(seen.end.record.retry_at is not None for seen in crowd)


async def test_a_hold_is_not_waited_for_past_the_time_to_the_first_text() -> None:
    model = router([limited("a", 30.0, GOOD)], RouterRules(deadline=Deadline(1.0, 30)))
    await reply(model)
    await asyncio.sleep(28.5)

    seen = await reply(model)

    assert seen.story == ["a cooldown"]
    assert seen.took_s == 0


@pytest.mark.parametrize(
    ("retry_after_s", "story", "took_s"),
    [
        (2.0, ["a rate_limited", "a ok"], 2.0),
        (5.0, ["a rate_limited", "a ok"], 5.0),
        (5.5, ["a rate_limited"], 0.0),
    ],
)
async def test_the_only_candidate_is_waited_for_when_it_names_a_short_time(
    retry_after_s: float, story: list[str], took_s: float
) -> None:
    seen = await reply(router([limited("a", retry_after_s, GOOD)]))

    assert seen.story == story
    assert seen.took_s == pytest.approx(took_s)


async def test_the_soonest_of_several_holds_is_waited_for() -> None:
    model = router([limited("a", 31.0, GOOD), limited("b", 30.0, GOOD)])
    await reply(model)
    await asyncio.sleep(28.5)

    seen = await reply(model)

    assert seen.story == ["a cooldown", "b cooldown", "b ok"]
    assert seen.took_s == pytest.approx(1.5)


async def test_a_hosted_endpoint_is_not_polled() -> None:
    hosted = candidate("a", *[failing(ErrorClass.CONNECT_REFUSED)] * 2, GOOD)
    model = router([hosted, candidate("b", GOOD)])
    await reply(model)
    await reply(model)
    await asyncio.sleep(60)

    assert isinstance(hosted.client, ScriptedClient)
    assert hosted.client.probes == 0
    assert (await reply(model)).story == ["a ok"]


async def test_many_requests_to_a_dead_engine_at_home_are_answered_by_one_poller() -> None:
    home = candidate("home", failing(ErrorClass.CONNECT_REFUSED), local=True)
    assert isinstance(home.client, ScriptedClient)
    home.client.report = ProbeReport(ProbeState.UNREACHABLE)
    model = router([home, candidate("b", GOOD)])

    await asyncio.gather(*(reply(model) for _ in range(20)))
    await asyncio.sleep(2.5)

    assert home.client.probes == 1
    await model.memory.aclose()


async def test_a_key_is_held_for_its_provider_alone() -> None:
    """Servers at home often share a dummy key."""
    shared = {"key_ref": "DUMMY_KEY", "local": True}
    one = candidate("one", failing(ErrorClass.RATE_LIMITED, retry_after_s=60.0), **shared)
    two = candidate("two", GOOD, **shared)
    model = router([one, two])

    await reply(model)

    assert (await reply(model)).story == ["one cooldown", "two ok"]


async def test_a_key_is_held_for_all_models_of_its_provider_and_a_model_for_itself() -> None:
    model = router([limited("a/x", 60.0), candidate("a/y", GOOD), candidate("b", GOOD)])
    gone = router([candidate("a/x", failing(ErrorClass.MODEL_GONE)), candidate("a/y", GOOD)])

    assert (await reply(model)).story == ["a rate_limited", "a cooldown", "b ok"]
    assert (await reply(gone)).story == ["a model_gone", "a ok"]


async def test_an_order_of_ones_own_names_the_soonest_time_of_its_own_candidates() -> None:
    model = router([limited("a", 300.0), limited("b", 20.0)])
    await reply(model)

    seen = await reply(model, wanted(order=("a",)))

    assert seen.end.record.retry_at == 1e9 + 300


async def test_the_time_named_is_that_of_the_first_who_is_free_of_all_holds() -> None:
    gone = candidate("a/x", failing(ErrorClass.MODEL_GONE))
    sibling = limited("a/y", 20.0)

    seen = await reply(router([gone, sibling]))

    assert seen.story == ["a model_gone", "a rate_limited"]
    assert seen.end.record.retry_at == 1e9 + 20
