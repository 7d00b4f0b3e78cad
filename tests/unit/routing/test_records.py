"""The route line, as people read it."""

from understudy.errors import ErrorClass
from understudy.llm.client import Phase
from understudy.llm.messages import Usage
from understudy.routing.records import (
    AttemptRecord,
    AttemptRole,
    NextStep,
    Outcome,
    SkipReason,
    describe_route,
)


def record(label: str, outcome: Outcome, **fields: object) -> AttemptRecord:
    base: dict[str, object] = {
        "ts": 0.0,
        "request_id": "r1",
        "attempt": 1,
        "of_max": 3,
        "sink": "web",
        "provider": label,
        "label": label,
        "engine": "openai",
        "endpoint_host": "127.0.0.1",
        "key_ref": None,
        "model_requested": "m",
        "role": AttemptRole.NORMAL,
        "outcome": outcome,
        "phase": Phase.DONE,
        "next": NextStep.DELIVER,
    }
    return AttemptRecord(**(base | fields))  # type: ignore[arg-type]


def test_a_route_tells_each_failure_and_who_answered() -> None:
    attempts = (
        record("openrouter", Outcome.ERROR, error_class=ErrorClass.RATE_LIMITED),
        record("chutes", Outcome.ERROR, error_class=ErrorClass.TRUNCATED_STREAM),
        record("local/koboldcpp", Outcome.OK, t_total_ms=1300, usage=Usage(412, 57)),
    )

    line = describe_route(attempts)

    assert line == (
        "rate-limited: openrouter · broke off: chutes · "
        "answered: local/koboldcpp, 1.3 s, 412→57 tokens"
    )


def test_disabled_providers_are_no_part_of_the_story() -> None:
    off = record("local", Outcome.SKIPPED, skip_reason=SkipReason.DISABLED)
    ok = record("openrouter", Outcome.OK, t_total_ms=400)

    assert describe_route((off, ok)) == "answered: openrouter, 0.4 s"


def test_equal_steps_in_a_row_are_counted() -> None:
    no_key = record("openrouter", Outcome.SKIPPED, skip_reason=SkipReason.NO_KEY)
    late = record("local", Outcome.ERROR, error_class=ErrorClass.RATE_LIMITED)
    ok = record("openrouter", Outcome.OK, t_total_ms=400)

    assert describe_route((no_key, no_key, late, no_key, ok)) == (
        "no key: openrouter ×2 · rate-limited: local · no key: openrouter · "
        "answered: openrouter, 0.4 s"
    )
