"""What each class of failure does to the reply and to the candidate."""

import asyncio

import pytest

from reply_events import RecordingSink
from understudy.errors import (
    BadReply,
    Denied,
    ErrorClass,
    HoldScope,
    Rejected,
    leaf_of,
)
from understudy.llm.capabilities import MOST_TOKENS_PER_BYTE, Capabilities
from understudy.llm.messages import ChatRequest, Finished, ReasoningDelta
from understudy.llm.testing import SILENCE, Pause, Script, ScriptedClient, saying
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterRules
from understudy.routing.failure_policy import RULES
from understudy.routing.records import (
    AttemptRole,
    NextStep,
    OfflineReason,
    ReplyOutcome,
)
from understudy.routing.request import Fit, Prompt, SinkKind
from understudy.routing.timeouts import Limits
from unit.routing.router_driver import calls, candidate, hello, reply, router, wanted

GOOD = saying("Hello", " there")
SKIPPED_TO_NEXT = [
    c
    for c in ErrorClass
    if c
    not in (
        ErrorClass.STALE_CONNECTION,
        ErrorClass.REASONING_EXHAUSTED,
        ErrorClass.CONTEXT_OVERFLOW,
        ErrorClass.CONTENT_POLICY,
        ErrorClass.REFUSAL,
        ErrorClass.CANCELLED,
    )
]


def failing(error_class: ErrorClass, **facts: object) -> Script:
    return (leaf_of(error_class)(error_class, **facts),)  # type: ignore[arg-type]


def sent(one: Candidate, call: int) -> ChatRequest:
    assert isinstance(one.client, ScriptedClient)
    return one.client.calls[call].request


@pytest.mark.parametrize("error_class", SKIPPED_TO_NEXT)
async def test_the_next_candidate_answers_at_once(error_class: ErrorClass) -> None:
    first = candidate("a", failing(error_class))

    seen = await reply(router([first, candidate("b", GOOD)]))

    assert seen.story == [f"a {error_class}", "b ok"]
    assert seen.took_s == 0
    assert calls(first) == 1


def test_every_class_has_its_rule() -> None:
    assert set(RULES) == set(ErrorClass)


async def test_retry_after_of_the_first_holds_it_and_delays_nobody() -> None:
    limited = candidate("a", failing(ErrorClass.RATE_LIMITED, retry_after_s=30.0), GOOD)
    model = router([limited, candidate("b", GOOD)])

    first = await reply(model)
    await asyncio.sleep(29)
    second = await reply(model)
    await asyncio.sleep(2)
    third = await reply(model)

    assert first.took_s == second.took_s == 0
    assert second.story == ["a cooldown", "b ok"]
    assert third.story == ["a ok"]
    assert third.end.record.attempts[0].role is AttemptRole.PROBE


async def test_a_daily_free_limit_leaves_the_paid_models_alone() -> None:
    daily = failing(
        ErrorClass.RATE_LIMITED, scope=HoldScope.KEY_FREE, http_status=429, retry_after_s=30.0
    )
    free, other, paid = (
        candidate("o/x:free", daily),
        candidate("o/y:free", GOOD),
        candidate("o/x", GOOD),
    )

    seen = await reply(router([free, other, paid]))

    assert seen.story == ["o rate_limited", "o cooldown", "o ok"]
    assert calls(other) == 0


async def test_a_dead_first_candidate_costs_ten_requests_three_calls_at_most() -> None:
    dead = candidate("a", failing(ErrorClass.SERVER_ERROR))
    model = router([dead, candidate("b", GOOD)])

    for _ in range(10):
        assert (await reply(model)).screen == "Hello there"

    assert calls(dead) == 3


async def test_a_silent_first_candidate_costs_one_request_its_budget() -> None:
    silent = candidate("a", (SILENCE,))
    model = router([silent, candidate("b", GOOD)])

    waits = [(await reply(model)).took_s for _ in range(3)]

    assert waits == [20.0, 0.0, 0.0]


async def test_fifty_at_half_open_make_one_call() -> None:
    limited = candidate(
        "a",
        failing(ErrorClass.RATE_LIMITED, retry_after_s=5.0),
        (Pause(1), *GOOD),
    )
    model = router([limited, candidate("b", (Pause(0.5), *GOOD))])
    await reply(model)
    await asyncio.sleep(6)

    seen = await asyncio.gather(*(reply(model) for _ in range(50)))

    assert calls(limited) == 2
    assert all(one.screen == "Hello there" for one in seen)


async def test_all_rate_limited_is_offline_at_once_with_the_soonest_time() -> None:
    limited = [
        candidate(name, failing(ErrorClass.RATE_LIMITED, retry_after_s=after))
        for name, after in (("a", 30.0), ("b", 20.0))
    ]

    seen = await reply(router(limited))

    assert seen.took_s == 0
    assert seen.end.record.offline_reason is OfflineReason.ALL_RATE_LIMITED
    assert seen.end.record.retry_at == 1e9 + 20
    assert [calls(c) for c in limited] == [1, 1]


async def test_a_cooldown_that_is_nearly_over_is_waited_for() -> None:
    limited = candidate("a", failing(ErrorClass.RATE_LIMITED, retry_after_s=30.0), GOOD)
    model = router([limited])
    await reply(model)
    await asyncio.sleep(29)

    seen = await reply(model)

    assert seen.took_s == pytest.approx(1.0)
    assert seen.story == ["a cooldown", "a ok"]


async def test_when_all_rest_those_that_may_be_well_again_are_forced_once() -> None:
    keyless = candidate("k", failing(ErrorClass.AUTH))
    silent = candidate("a", (SILENCE,), GOOD, GOOD)
    model = router([keyless, silent], RouterRules(max_attempts=2))
    await reply(model)

    forced = await reply(model)

    assert forced.story == ["k cooldown", "a cooldown", "a ok"]
    assert forced.end.record.attempts[-1].role is AttemptRole.FORCED
    assert calls(keyless) == 1


async def test_only_one_forced_pass_in_five_seconds() -> None:
    busy = candidate("a", failing(ErrorClass.OVERLOADED, retry_after_s=60.0))
    model = router([busy])
    await reply(model)

    first, second = await reply(model), await reply(model)
    await asyncio.sleep(6)
    third = await reply(model)

    assert [len(one.story) for one in (first, second, third)] == [2, 1, 2]


async def test_the_only_candidate_gets_a_second_chance_after_a_short_wait() -> None:
    flaky = candidate("a", failing(ErrorClass.SERVER_ERROR), GOOD)

    seen = await reply(router([flaky]))

    assert [a.role for a in seen.end.record.attempts] == [
        AttemptRole.NORMAL,
        AttemptRole.BACKOFF_RETRY,
    ]
    assert 0.3 <= seen.took_s <= 1.5


async def test_second_chances_are_rationed_for_the_whole_process() -> None:
    down = candidate("a", failing(ErrorClass.POOL_TIMEOUT))
    model = router([down, candidate("k", failing(ErrorClass.INTERNAL))])

    seen = await asyncio.gather(*(reply(model) for _ in range(20)))

    retried = [
        a for one in seen for a in one.end.record.attempts if a.role is AttemptRole.BACKOFF_RETRY
    ]
    assert len(retried) == 5


async def test_a_rate_limit_without_a_time_is_not_retried() -> None:
    limited = candidate("a", failing(ErrorClass.RATE_LIMITED))

    seen = await reply(router([limited]))

    assert calls(limited) == 1
    assert seen.took_s == 0


async def test_two_providers_calling_the_request_bad_end_it() -> None:
    third = candidate("c", GOOD)
    bad = [candidate(name, failing(ErrorClass.BAD_REQUEST)) for name in "ab"]

    seen = await reply(router([*bad, third]))

    assert seen.end.record.outcome is ReplyOutcome.REJECTED
    assert seen.end.record.offline_reason is OfflineReason.REJECTED
    assert calls(third) == 0


async def test_two_models_of_one_provider_are_not_two_opinions() -> None:
    bad = [candidate(name, failing(ErrorClass.BAD_REQUEST)) for name in ("a/x", "a/y")]

    seen = await reply(router([*bad, candidate("c", GOOD)]))

    assert seen.screen == "Hello there"


async def test_refused_content_stops_unless_told_otherwise() -> None:
    refused = failing(ErrorClass.CONTENT_POLICY)

    stopped = await reply(router([candidate("a", refused), candidate("b", GOOD)]))
    hopped = await reply(
        router(
            [candidate("a", refused), candidate("b", refused), candidate("c", GOOD)],
            RouterRules(stop_on_content_policy=False),
        )
    )

    assert stopped.story == ["a content_policy"]
    assert stopped.end.record.outcome is ReplyOutcome.REJECTED
    assert hopped.story == ["a content_policy", "b content_policy"]


async def test_a_stale_connection_is_tried_again_fresh() -> None:
    stale = candidate("a", failing(ErrorClass.STALE_CONNECTION), GOOD)

    seen = await reply(router([stale, candidate("b", GOOD)]))

    assert [a.role for a in seen.end.record.attempts] == [
        AttemptRole.NORMAL,
        AttemptRole.STALE_RETRY,
    ]
    assert seen.end.record.attempts[0].next is NextStep.RETRY


async def test_a_refused_parameter_is_dropped_once_and_remembered() -> None:
    picky = candidate("a", failing(ErrorClass.UNSUPPORTED_PARAM, parameter="top_p"), GOOD)
    model = router([picky, candidate("b", GOOD)])

    seen = await reply(model)
    await reply(model)

    assert seen.story == ["a unsupported_param", "a ok"]
    assert [sent(picky, call).omit for call in range(3)] == [(), ("top_p",), ("top_p",)]


async def test_a_parameter_that_matters_is_not_dropped() -> None:
    picky = candidate("a", failing(ErrorClass.UNSUPPORTED_PARAM, parameter="tools"), GOOD)

    seen = await reply(router([picky, candidate("b", GOOD)]))

    assert seen.story == ["a unsupported_param", "b ok"]


async def test_too_little_credit_for_a_long_reply_asks_for_a_shorter_one() -> None:
    poor = candidate("a", failing(ErrorClass.QUOTA, affordable_tokens=60), GOOD)
    model = router([poor, candidate("b", GOOD)])

    seen = await reply(model)

    assert sent(poor, 1).max_tokens == 60
    assert seen.end.record.attempts[1].role is AttemptRole.SHRINK_RETRY
    assert (await reply(model)).story == ["a ok"]


async def test_a_model_that_only_thought_gets_more_room_once() -> None:
    thinking = (ReasoningDelta("hm"), Finished("length"))
    thinker = candidate("a", thinking, thinking)

    seen = await reply(router([thinker, candidate("b", GOOD)]))

    assert seen.story == ["a reasoning_exhausted", "a reasoning_exhausted", "b ok"]
    assert sent(thinker, 1).max_tokens == 400


async def test_an_overflow_rebuilds_the_prompt_smaller_for_the_context_it_named() -> None:
    fits: list[Fit] = []

    def build(fit: Fit) -> Prompt:
        fits.append(fit)
        return hello(fit)

    small = candidate("a", failing(ErrorClass.CONTEXT_OVERFLOW, n_ctx=2048), GOOD)

    seen = await reply(router([small, candidate("b", GOOD)]), wanted(build=build))

    assert seen.story == ["a context_overflow", "a ok"]
    assert [fit.n_ctx for fit in fits] == [None, 2048]
    assert fits[1].tokens_per_char > fits[0].tokens_per_char
    assert fits[1].shrink == fits[1].tokens_per_char / MOST_TOKENS_PER_BYTE


async def test_a_prompt_is_built_smaller_once_and_then_the_next_is_asked() -> None:
    small = candidate("a", *[failing(ErrorClass.CONTEXT_OVERFLOW)] * 2)

    seen = await reply(router([small, candidate("b", GOOD)]))

    assert seen.story == ["a context_overflow", "a context_overflow", "b ok"]
    assert calls(small) == 2


@pytest.mark.parametrize(("tokens", "fits"), [(3644, True), (3645, False)])
async def test_room_for_the_reply_and_a_twentieth_is_kept_before_a_prompt_is_sent(
    tokens: int, fits: bool
) -> None:
    sized = candidate("a", GOOD, capabilities=Capabilities(n_ctx=4096), reply_tokens=9000)
    request = wanted(
        build=lambda _fit: Prompt(ChatRequest(()), input_tokens=tokens), may_trim_prompt=False
    )

    seen = await reply(router([sized, candidate("b", GOOD)]), request)

    assert seen.story == (["a ok"] if fits else ["a context", "b ok"])


async def test_a_model_that_refused_tools_is_passed_by_for_a_day() -> None:
    plain = candidate("a", failing(ErrorClass.UNSUPPORTED_INPUT), GOOD)
    model = router([plain, candidate("b", GOOD)])

    stories = [(await reply(model, wanted(tools=True))).story for _ in range(2)]
    await asyncio.sleep(24 * 3600 + 1)
    stories.append((await reply(model, wanted(tools=True))).story)

    assert stories == [["a unsupported_input", "b ok"], ["a capability", "b ok"], ["a ok"]]


async def test_a_clients_own_prompt_is_never_cut_but_goes_to_a_larger_context() -> None:
    def long(_fit: Fit) -> Prompt:
        return Prompt(ChatRequest(()), input_tokens=5000)

    small = candidate("a", GOOD, capabilities=Capabilities(n_ctx=4096))
    told = candidate("b", failing(ErrorClass.CONTEXT_OVERFLOW, n_ctx=4096))
    request = wanted(SinkKind.APPEND_ONLY, build=long, may_trim_prompt=False)

    seen = await reply(router([small, told, candidate("c", GOOD)]), request)
    nowhere = await reply(router([small]), request)

    assert seen.story == ["a context", "b context_overflow", "c ok"]
    assert nowhere.end.record.offline_reason is OfflineReason.TOO_LONG


async def test_a_local_server_is_asked_for_the_exact_count_when_it_gets_tight() -> None:
    def near(_fit: Fit) -> Prompt:
        return Prompt(ChatRequest(()), input_tokens=3800)

    local = candidate("a", local=True, capabilities=Capabilities(n_ctx=4096))
    client = ScriptedClient([GOOD], tokens=3000)
    counted = Candidate(
        "a", "m", "a", "llama.cpp", client, local=True, capabilities=local.capabilities
    )

    assert (await reply(router([counted]), wanted(build=near))).story == ["a ok"]


async def test_images_pass_by_those_who_cannot_see_while_one_can() -> None:
    text_only = candidate("a", GOOD, capabilities=Capabilities(vision=False))
    sees = candidate("b", GOOD, capabilities=Capabilities(vision=True))

    seen = await reply(router([text_only, sees]), wanted(images=1))

    assert seen.story == ["a capability", "b ok"]


async def test_text_alone_is_sent_when_nobody_who_sees_is_usable() -> None:
    text_only = candidate("a", GOOD, capabilities=Capabilities(vision=False))
    down = candidate("b", failing(ErrorClass.SERVER_ERROR))

    seen = await reply(router([text_only, down]), wanted(images=1))

    assert seen.story == ["a capability", "b server_error", "a ok"]
    assert seen.end.degraded == ("images",)


async def test_a_gateway_client_hears_that_nobody_can_see() -> None:
    text_only = candidate("a", GOOD, capabilities=Capabilities(vision=False))
    request = wanted(SinkKind.APPEND_ONLY, images=1, may_trim_prompt=False, degrade_images=False)

    seen = await reply(router([text_only]), request)

    assert seen.end.record.offline_reason is OfflineReason.NO_CAPABLE


async def test_unknown_vision_is_tried_once_and_learned() -> None:
    def with_image(fit: Fit) -> Prompt:
        return Prompt(ChatRequest(()), input_tokens=10, images=int(fit.vision))

    loud = candidate("a", failing(ErrorClass.UNSUPPORTED_INPUT), GOOD)
    model = router([loud, candidate("b", GOOD, capabilities=Capabilities(vision=True))])
    request = wanted(images=1, build=with_image)

    first, second = await reply(model, request), await reply(model, request)

    assert first.story == ["a unsupported_input", "b ok"]
    assert second.story == ["a capability", "b ok"]


@pytest.mark.parametrize("images", [0, 2])
async def test_a_request_too_large_is_sent_without_its_images_when_nobody_takes_it(
    images: int,
) -> None:
    def build(fit: Fit) -> Prompt:
        return Prompt(ChatRequest(()), input_tokens=10, images=images * fit.vision)

    small = candidate("a", failing(ErrorClass.PAYLOAD_TOO_LARGE, http_status=413), GOOD)
    model = router([small, candidate("b", failing(ErrorClass.SERVER_ERROR))])

    seen = await reply(model, wanted(images=images, build=build))

    assert seen.story[:2] == ["a payload_too_large", "b server_error"]
    assert seen.story[2:3] == (["a ok"] if images else ["b server_error"])
    assert seen.end.degraded == (("images",) if images else ())


async def test_an_engine_that_does_not_say_it_is_blind_gets_no_images() -> None:
    silent = candidate("a", GOOD, silently_drops_images=True)

    seen = await reply(
        router([silent, candidate("b", GOOD, capabilities=Capabilities(vision=True))]),
        wanted(images=1),
    )

    assert seen.story == ["a capability", "b ok"]


async def test_paid_candidates_are_passed_by_once_the_money_is_spent() -> None:
    free = candidate("home", GOOD, engine="koboldcpp")

    seen = await reply(router([candidate("a", GOOD), free]), wanted(may_spend=lambda _: False))
    broke = await reply(router([candidate("a", GOOD)]), wanted(may_spend=lambda _: False))

    assert seen.story == ["a budget", "home ok"]
    assert broke.end.record.offline_reason is OfflineReason.BUDGET
    retry_at = broke.end.record.retry_at
    assert retry_at is not None
    assert retry_at % 86_400 == 0
    assert 0 < retry_at - broke.end.record.ts <= 86_400


async def test_an_order_of_its_own_is_walked_as_it_stands() -> None:
    candidates = [candidate(name, GOOD) for name in ("a/x", "a/y", "b")]

    seen = await reply(router(candidates), wanted(order=("b", "a/y")))
    other = await reply(router(candidates), wanted(order=("a/y", "a")))

    assert seen.story == ["b ok"]
    assert other.end.record.attempts[0].model_requested == "y"


async def test_nothing_configured_is_a_matter_of_configuration() -> None:
    seen = await reply(router([]))

    assert seen.end.record.offline_reason is OfflineReason.CONFIG


async def test_the_request_ends_within_its_commit_deadline() -> None:
    silent = [candidate(name, (SILENCE,)) for name in "abcd"]

    seen = await reply(router(silent))

    assert seen.took_s == pytest.approx(45.0)
    assert [a.budget_ms for a in seen.end.record.attempts] == [20_000, 19_000, 3000, 3000]


async def test_a_strict_candidate_keeps_its_limit_even_as_the_last() -> None:
    strict = candidate("a", (SILENCE,), limits=Limits(first_token_s=8, strict=True))

    seen = await reply(router([strict], RouterRules(max_attempts=1)))

    assert seen.took_s == pytest.approx(8.0)


async def test_thinking_does_not_spend_what_the_others_need() -> None:
    thoughts = [step for _ in range(40) for step in (Pause(5), ReasoningDelta("hm "))]

    seen = await reply(router([candidate("a", thoughts), candidate("b", GOOD)]))

    assert seen.story == ["a total_timeout", "b ok"]
    assert seen.took_s == pytest.approx(42.0)


async def test_a_refused_key_is_left_alone_and_costs_nothing() -> None:
    denied = candidate("a", (Denied(ErrorClass.AUTH, http_status=401),))
    model = router([denied, candidate("b", GOOD)])

    for _ in range(5):
        await reply(model)

    assert calls(denied) == 1


async def test_an_empty_reply_lasts_until_its_sink_has_sent_it() -> None:
    class Slow(RecordingSink):
        async def flush(self) -> None:
            await asyncio.sleep(2)

    model = router([candidate("a", (Finished("stop"),))])

    ended = await model.reply(wanted(may_trim_prompt=False).request, Slow())

    record = ended.record
    assert record.outcome is ReplyOutcome.DELIVERED
    assert record.ts + record.t_total_ms / 1000 == 1e9 + asyncio.get_running_loop().time()
    assert record.ts == 1e9


async def test_three_empty_replies_of_ten_leave_a_model_out() -> None:
    empty = candidate("a", (BadReply(ErrorClass.EMPTY_REPLY),))
    model = router([empty, candidate("b", GOOD)])

    for _ in range(5):
        await reply(model)

    assert calls(empty) == 3


async def test_error_text_is_kept_out_of_records() -> None:
    secret = Rejected(ErrorClass.BAD_REQUEST, detail="prompt: my secret")

    seen = await reply(router([candidate("a", (secret,)), candidate("b", GOOD)]))

    record = seen.end.record.attempts[0]
    assert record.error_text is None
    assert record.error_digest is not None
