"""What holds whatever the servers do: order, one attempt each, budgets, one record each."""

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from autojump import AutojumpLoop
from understudy.errors import ErrorClass, HoldScope, leaf_of
from understudy.llm.messages import Finished, ReasoningDelta, TextDelta, ToolCallDelta
from understudy.llm.testing import SILENCE, Pause, Script, ScriptedClient, Step
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment
from understudy.routing.records import AttemptRole, Outcome, ReplyOutcome
from understudy.routing.request import SinkKind
from understudy.routing.router import ModelRouter
from understudy.routing.timeouts import Limits, budget
from unit.routing.router_driver import Observed, Seen, candidate, reply, wanted

REPAIRS = {
    AttemptRole.STALE_RETRY,
    AttemptRole.PARAM_RETRY,
    AttemptRole.SHRINK_RETRY,
    AttemptRole.BACKOFF_RETRY,
}


def failure(error_class: ErrorClass, retry_after_s: float | None) -> Exception:
    return leaf_of(error_class)(
        error_class,
        retry_after_s=retry_after_s,
        parameter="top_p",
        affordable_tokens=50,
        n_ctx=2048,
        scope=HoldScope.KEY_FREE if error_class is ErrorClass.RATE_LIMITED else None,
    )


FAILURES = st.builds(
    failure, st.sampled_from(ErrorClass), st.none() | st.floats(0.1, 60, allow_nan=False)
)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.sampled_from(
        [
            TextDelta("Well, "),
            TextDelta("yes."),
            TextDelta(" "),
            TextDelta(""),
            TextDelta("<think>"),
            TextDelta("</think>"),
            TextDelta("la" * 100),
            TextDelta("<|im_end|>"),
            ReasoningDelta("hm"),
            ToolCallDelta(0, "c", "f", "{}"),
            SILENCE,
            Finished("stop"),
            Finished("length"),
            Finished("content_filter"),
        ]
    ),
    st.floats(0, 40, allow_nan=False).map(Pause),
    FAILURES,
    st.just(ArithmeticError("a bug")),
)
SCRIPTS = st.lists(STEPS, max_size=6).map(tuple)
SERVERS = st.lists(st.lists(SCRIPTS, min_size=1, max_size=3), min_size=1, max_size=4)


def candidates_of(servers: list[list[Script]], local: bool) -> list[Candidate]:
    return [
        candidate(f"p{n % 3}/m{n}:free", *scripts, local=local) for n, scripts in enumerate(servers)
    ]


async def _replies(
    candidates: list[Candidate], kind: SinkKind, shown: bool, observed: Observed
) -> list[Seen]:
    loop = asyncio.get_running_loop()
    tools = RouterEnvironment(
        clock=loop.time, wall=loop.time, random=Random(3), observers=(observed,)
    )
    model = ModelRouter(candidates, instruments=tools)
    seen = [await reply(model, wanted(kind, shown=lambda: shown)) for _ in range(3)]
    await model.memory.aclose()
    return seen


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(SERVERS, st.sampled_from(SinkKind), st.booleans(), st.booleans())
def test_promises_hold_whatever_the_servers_do(
    servers: list[list[Script]], kind: SinkKind, shown: bool, local: bool
) -> None:
    candidates, observed = candidates_of(servers, local), Observed()

    with capture_logs(), asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        replies = runner.run(_replies(candidates, kind, shown, observed))

    for seen in replies:
        assert seen.took_s <= 180.001
        _order_is_kept(seen, candidates)
        _each_once(seen, len(candidates))
        _text_is_of_one_attempt(seen, kind)
    calls = _calls(candidates)
    started = [a for a in observed.attempts if a.outcome is not Outcome.SKIPPED]
    unsent = [a for a in started if a.error_class is ErrorClass.QUEUE_TIMEOUT]
    assert len(started) - len(unsent) <= calls <= len(started)
    assert [r for s in replies for r in s.end.record.attempts] == observed.attempts
    assert len(observed.replies) == 3


@dataclass(frozen=True)
class Coming:
    """One of a crowd: when they ask, and when they leave, if they do."""

    at: float
    leaves_after: float | None
    channel: str
    kind: SinkKind


CROWDS = st.lists(
    st.builds(
        Coming,
        st.sampled_from([0.0, 0.0, 1.0, 30.0]),
        st.none() | st.sampled_from([0.0, 1.0, 2.0, 20.0]) | st.floats(0, 60),
        st.sampled_from("abc"),
        st.sampled_from(SinkKind),
    ),
    min_size=1,
    max_size=8,
)


async def _crowd(model: ModelRouter, crowd: list[Coming]) -> int:
    """How many had left before their reply had ended."""

    async def come(one: Coming) -> bool:
        await asyncio.sleep(one.at)
        task = asyncio.create_task(reply(model, wanted(one.kind, queue_key=one.channel)))
        await asyncio.wait({task}, timeout=one.leaves_after)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
        return task.cancelled()

    left = await asyncio.gather(*map(come, crowd))
    await model.memory.aclose()
    return sum(left)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(SERVERS, CROWDS, st.none() | st.integers(1, 2))
def test_a_crowd_that_comes_and_goes_leaves_one_record_each_and_nothing_under_way(
    servers: list[list[Script]], crowd: list[Coming], room: int | None
) -> None:
    candidates = [
        candidate(f"p{n % 3}/m{n}", *scripts, max_concurrency=room, local=room is None)
        for n, scripts in enumerate(servers)
    ]
    observed = Observed()

    with capture_logs() as logs, asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        loop = runner.get_loop()
        tools = RouterEnvironment(
            clock=loop.time, wall=loop.time, random=Random(3), observers=(observed,)
        )
        model = ModelRouter(candidates, instruments=tools)
        left = runner.run(_crowd(model, crowd))

    outcomes = [record.outcome for record in observed.replies]
    assert len(outcomes) == len(crowd)
    assert outcomes.count(ReplyOutcome.CANCELLED) == left
    told = [attempt for record in observed.replies for attempt in record.attempts]
    assert sorted(map(id, told)) == sorted(map(id, observed.attempts))
    assert not model.memory.attempts
    assert all((q.inside, q.waiting) == (0, 0) for q in model.memory.queues.values())
    bugs = [log for log in logs if log["event"] == "router.internal_error"]
    assert all(log["error"] in ("", "ArithmeticError") for log in bugs)
    _calls(candidates)


def _calls(candidates: list[Candidate]) -> int:
    made = [c.client.calls for c in candidates if isinstance(c.client, ScriptedClient)]
    assert all(call.ended for calls in made for call in calls)
    return sum(map(len, made))


def _order_is_kept(seen: Seen, candidates: list[Candidate]) -> None:
    """Every candidate has its turn in order; who was left out then may have a later one, and
    those come in order again: after waiting, without images, or although they rest."""
    names = [c.model for c in candidates]
    turns = [a for a in seen.end.record.attempts if a.role not in REPAIRS]
    places = [names.index(a.model_requested) for a in turns]
    firsts = list(dict.fromkeys(places))
    assert firsts == sorted(firsts)
    left_out: set[int] = set()
    later: list[int] = []
    for place, attempt in zip(places, turns, strict=True):
        if place in left_out:
            later.append(place)
            left_out.discard(place)
        else:
            assert place not in later
        if attempt.outcome is Outcome.SKIPPED:
            left_out.add(place)
    assert sum(after < before for before, after in pairwise(later)) <= 2


def _each_once(seen: Seen, candidates: int) -> None:
    attempts = [a for a in seen.end.record.attempts if a.outcome is not Outcome.SKIPPED]
    plain = [a.model_requested for a in attempts if a.role not in REPAIRS]
    repaired = [a.model_requested for a in attempts if a.role in REPAIRS]
    assert len(plain) == len(set(plain))
    assert len(repaired) == len(set(repaired)) <= 2
    assert len(attempts) <= candidates + 2


def _text_is_of_one_attempt(seen: Seen, kind: SinkKind) -> None:
    end = seen.end
    if end.record.outcome is ReplyOutcome.DELIVERED:
        assert end.record.winner is end.record.attempts[-1]
        assert kind is SinkKind.APPEND_ONLY or seen.screen.startswith(end.text)
    elif end.record.outcome is not ReplyOutcome.PARTIAL:
        assert end.text == ""


@pytest.mark.slow
@given(
    st.floats(0.1, 200),
    st.floats(0.1, 200),
    st.integers(0, 20),
    st.floats(0.1, 400),
    st.floats(0.1, 400),
    st.booleans(),
)
def test_no_budget_exceeds_what_is_left(
    first_token_s: float,
    idle_s: float,
    later: int,
    remaining_s: float,
    total_s: float,
    probe: bool,
) -> None:
    limits = Limits(first_token_s=first_token_s, idle_s=idle_s)

    spend = budget(limits, remaining_s=remaining_s, total_s=total_s, later=later, probe=probe)

    assert 0 < spend.first_token_s <= remaining_s
    assert spend.visible_s <= remaining_s
    assert spend.total_s <= total_s
    assert spend.first_token_s <= spend.visible_s


@given(st.floats(5, 200), st.integers(1, 10))
def test_later_candidates_keep_their_share(remaining_s: float, later: int) -> None:
    spend = budget(Limits(first_token_s=1e6), remaining_s=remaining_s, total_s=1e6, later=later)

    assert spend.first_token_s == max(remaining_s - 3 * later, 1.0)
