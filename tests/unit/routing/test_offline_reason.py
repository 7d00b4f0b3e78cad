"""The one word for why no server answered."""

import pytest

from understudy.errors import ErrorClass
from understudy.llm.client import Phase
from understudy.routing.failure_policy import offline_reason
from understudy.routing.records import (
    AttemptRecord,
    AttemptRole,
    NextStep,
    OfflineReason,
    Outcome,
    SkipReason,
)

R, C, S = OfflineReason, ErrorClass, SkipReason


def record(
    provider: str, why: ErrorClass | SkipReason, of: ErrorClass | None = None
) -> AttemptRecord:
    skipped = isinstance(why, SkipReason)
    return AttemptRecord(
        ts=0.0,
        request_id="r",
        attempt=1,
        of_max=4,
        sink="web",
        provider=provider,
        label=provider,
        engine="openai",
        endpoint_host="h",
        key_ref=None,
        model_requested="m",
        role=AttemptRole.NORMAL,
        outcome=Outcome.SKIPPED if skipped else Outcome.ERROR,
        phase=Phase.QUEUE,
        next=NextStep.FAILOVER,
        skip_reason=why if isinstance(why, SkipReason) else None,
        error_class=of if isinstance(why, SkipReason) else why,
    )


def reason(*records: AttemptRecord, **why: bool) -> OfflineReason:
    said = {"out_of_time": False, "at_fault": False} | why
    return offline_reason(records, out_of_time=said["out_of_time"], at_fault=said["at_fault"])


@pytest.mark.parametrize(
    ("alone", "expected"),
    [
        (C.RATE_LIMITED, R.ALL_RATE_LIMITED),
        (C.AUTH, R.CONFIG),
        (C.QUOTA, R.CONFIG),
        (C.MODEL_GONE, R.CONFIG),
        (C.UNSUPPORTED_INPUT, R.NO_CAPABLE),
        (C.CONTEXT_OVERFLOW, R.TOO_LONG),
        (C.PAYLOAD_TOO_LARGE, R.NO_CAPABLE),
        (C.BAD_REQUEST, R.REJECTED),
        (C.UNSUPPORTED_PARAM, R.REJECTED),
        (C.CONTENT_POLICY, R.REJECTED),
        (C.SERVER_ERROR, R.ALL_DOWN),
        (C.CONNECT_REFUSED, R.ALL_DOWN),
        (C.FIRST_TOKEN_TIMEOUT, R.ALL_DOWN),
        (C.EMPTY_REPLY, R.ALL_DOWN),
        (S.BUDGET, R.BUDGET),
        (S.CAPABILITY, R.NO_CAPABLE),
        (S.CONTEXT, R.TOO_LONG),
        (S.NO_KEY, R.CONFIG),
        (S.DISABLED, R.CONFIG),
    ],
)
def test_what_kept_the_only_candidate_from_answering_is_the_reason(
    alone: ErrorClass | SkipReason, expected: OfflineReason
) -> None:
    assert reason(record("a", alone)) is expected


@pytest.mark.parametrize(
    ("cause", "expected"),
    [(C.RATE_LIMITED, R.ALL_RATE_LIMITED), (C.AUTH, R.CONFIG), (C.OVERLOADED, R.ALL_DOWN)],
)
def test_who_rests_counts_for_what_they_rest_for(
    cause: ErrorClass, expected: OfflineReason
) -> None:
    assert reason(record("a", S.COOLDOWN, cause)) is expected


def test_what_passes_by_itself_is_named_before_what_the_operator_must_mend() -> None:
    keyless, limited = record("a", S.NO_KEY), record("b", C.RATE_LIMITED)

    assert reason(keyless, limited) is R.ALL_RATE_LIMITED
    assert reason(limited, keyless, record("c", C.SERVER_ERROR)) is R.ALL_DOWN


def test_one_opinion_of_a_bad_request_is_enough_where_nobody_else_could_answer() -> None:
    bad = record("a", C.BAD_REQUEST)

    assert reason(bad, record("b", S.NO_KEY)) is R.REJECTED
    assert reason(bad, record("b", S.COOLDOWN, C.OVERLOADED)) is R.ALL_DOWN


def test_the_last_word_of_a_candidate_counts() -> None:
    assert reason(record("a", S.CAPABILITY), record("a", C.RATE_LIMITED)) is R.ALL_RATE_LIMITED


def test_a_request_at_fault_is_rejected_and_one_out_of_time_says_so() -> None:
    down = record("a", C.SERVER_ERROR)

    assert reason(down, at_fault=True, out_of_time=True) is R.REJECTED
    assert reason(down, out_of_time=True) is R.DEADLINE


def test_nothing_to_ask_is_a_matter_of_configuration() -> None:
    assert reason() is R.CONFIG
