"""What an attempt's record tells of how far it came, over real HTTP."""

import contextlib
import json

import pytest

from reply_events import reply_events
from understudy.app.models import ReloadableRouter
from understudy.config.load import parse_config
from understudy.errors import ErrorClass, HoldScope
from understudy.llm.client import Phase
from understudy.llm.messages import ChatRequest, Message, TextPart
from understudy.rehearsal.server import Cast, RehearsalServer
from understudy.routing.environment import RouterEnvironment
from understudy.routing.records import AttemptRecord, Outcome, ReplyRecord
from understudy.routing.request import Prompt, ReplyEnded, ReplyRequest, SinkKind

PROMPT = Prompt(ChatRequest((Message("user", (TextPart("Hello"),)),)), input_tokens=10)
DOWN = "nobody listens"
ASKED = ReplyRequest("r1", "web", lambda _fit: PROMPT)
SHORT = {
    "silent": {"timeout_seconds": 0.3},
    "hdrstall": {"timeout_seconds": 2.0},
    "midstall": {"idle_timeout_seconds": 0.3},
}
"""Short only where they are meant to pass."""


async def record_of(fault: str) -> AttemptRecord:
    """The first attempt's record where the first of two servers behaves so."""
    part = "ok" if fault == DOWN else fault
    async with RehearsalServer(part) as first, RehearsalServer() as second:
        if fault == DOWN:
            await first.go_down()
        servers = {
            "first": {
                "base_url": first.base_url,
                "name": "m",
                "api_key_env": "FIRST_KEY",
                "timeout_seconds": 60.0,
                "idle_timeout_seconds": 60.0,
                **SHORT.get(fault, {}),
            },
            "second": {"base_url": second.base_url},
        }
        model = {"provider_order": list(servers), "servers": servers}
        config = parse_config(json.dumps({"model": model}), {"FIRST_KEY": "sk-records-canary"})
        models = ReloadableRouter(config, RouterEnvironment())
        async with contextlib.aclosing(reply_events(models.reply, ASKED, SinkKind.HELD)) as events:
            last = [event async for event in events][-1]
        await models.aclose()
    assert isinstance(last, ReplyEnded)
    assert last.record.attempts[0].config_rev == config.rev
    return last.record.attempts[0]


@pytest.mark.parametrize(
    ("fault", "error_class", "phase", "status", "maybe_billed"),
    [
        (DOWN, ErrorClass.CONNECT_REFUSED, Phase.CONNECT, None, False),
        ("silent", ErrorClass.FIRST_TOKEN_TIMEOUT, Phase.HEADERS, None, True),
        ("hdrstall", ErrorClass.FIRST_TOKEN_TIMEOUT, Phase.FIRST_TOKEN, 200, True),
        ("midstall", ErrorClass.IDLE_TIMEOUT, Phase.STREAMING, 200, True),
        ("cut", ErrorClass.TRUNCATED_STREAM, Phase.STREAMING, 200, True),
        ("e503", ErrorClass.OVERLOADED, Phase.FIRST_TOKEN, 503, False),
        ("e429long", ErrorClass.RATE_LIMITED, Phase.FIRST_TOKEN, 429, False),
    ],
)
async def test_a_failed_attempt_tells_how_far_it_came_and_whether_it_may_cost(
    fault: str, error_class: ErrorClass, phase: Phase, status: int | None, maybe_billed: bool
) -> None:
    seen = await record_of(fault)

    assert (seen.error_class, seen.phase, seen.http_status) == (error_class, phase, status)
    assert (seen.outcome, seen.maybe_billed) == (Outcome.ERROR, maybe_billed)
    assert (seen.of_max, seen.key_ref, seen.endpoint_host) == (4, "FIRST_KEY", "127.0.0.1")
    assert "canary" not in repr(seen)


async def test_a_good_attempt_tells_its_times_in_order_and_its_tokens() -> None:
    seen = await record_of("ok:0.01")

    times = (seen.t_connect_ms, seen.t_headers_ms, seen.t_first_output_ms, seen.t_first_visible_ms)
    told = [time for time in times if time is not None]
    assert len(told) == 4
    assert told == sorted(told)
    assert told[-1] <= seen.t_total_ms
    assert (seen.phase, seen.finish_reason, seen.model_served) == (Phase.DONE, "stop", "m")
    assert seen.usage is not None
    assert seen.usage.output_tokens > 0
    assert seen.visible_chars > 0


async def test_a_hold_is_told_with_its_scope_and_length() -> None:
    seen = await record_of("e429long")

    assert seen.retry_after_s == 30
    assert seen.breaker is not None
    assert (seen.breaker.scope, seen.breaker.hold_s) == (HoldScope.KEY, 30)
    assert (seen.breaker.before, seen.breaker.after) == ("closed", "open")
    assert seen.held_until is not None
    assert 29 < seen.held_until - seen.ts <= 31


async def test_comments_and_bad_frames_are_counted() -> None:
    chatty, broken = await record_of("chatty"), await record_of("badjson")

    assert chatty.keepalives >= 2
    assert (broken.outcome, broken.bad_frames) == (Outcome.OK, 1)


async def test_a_refused_key_is_left_out_and_the_next_key_of_the_list_answers() -> None:
    async with RehearsalServer("say:well", cast=Cast(api_key="good-key-1234")) as server:
        entry = {"base_url": server.base_url, "name": "m", "api_key_env": ["BAD", "GOOD"]}
        text = json.dumps({"model": {"provider_order": ["a"], "servers": {"a": entry}}})
        config = parse_config(text, {"BAD": "bad-key-1234", "GOOD": "good-key-1234"})
        models = ReloadableRouter(config, RouterEnvironment())
        records = [await record_from(models) for _ in range(2)]
        await models.aclose()

    assert [[(a.label, a.outcome) for a in record.attempts] for record in records] == [
        [("a (key 1)", Outcome.ERROR), ("a (key 2)", Outcome.OK)],
        [("a (key 1)", Outcome.SKIPPED), ("a (key 2)", Outcome.OK)],
    ]
    assert "good-key" not in repr(records)


async def record_from(models: ReloadableRouter) -> ReplyRecord:
    async with contextlib.aclosing(reply_events(models.reply, ASKED, SinkKind.HELD)) as events:
        last = [event async for event in events][-1]
    assert isinstance(last, ReplyEnded)
    return last.record
