"""Alerts report problems that only the operator can fix, once a day."""

import pytest
from structlog.testing import capture_logs

from sample_records import NOON, answered, failed, skipped
from understudy.errors import ErrorClass
from understudy.observability.alerts import Alerts
from understudy.routing.records import AttemptRecord, SkipReason


def test_a_rejected_key_is_reported_once_to_the_log_and_to_every_listener() -> None:
    told: list[str] = []
    alerts = Alerts(lambda: NOON)
    alerts.listeners.append(told.append)
    refused = failed("openrouter", ErrorClass.AUTH, http_status=401)

    with capture_logs() as logged:
        alerts.attempt_ended(refused)
        alerts.attempt_ended(refused)

    advice = (
        "openrouter refuses the key OPENROUTER_API_KEY: "
        "check or replace it, then reload the configuration."
    )
    assert told == [advice]
    assert logged == [
        {
            "event": "operator.alert",
            "log_level": "warning",
            "cause": "auth",
            "provider": "openrouter",
            "candidate": "openrouter/lab/model",
            "request_id": "r1",
            "advice": advice,
        }
    ]


def test_an_alert_is_repeated_the_next_day() -> None:
    told: list[str] = []
    days = iter((NOON, NOON, NOON + 86_400))
    alerts = Alerts(lambda: next(days))
    alerts.listeners.append(told.append)

    for _ in range(3):
        alerts.attempt_ended(failed("chutes", ErrorClass.QUOTA))

    assert len(told) == 2


def test_each_missing_model_is_a_separate_cause() -> None:
    told: list[str] = []
    alerts = Alerts(lambda: NOON)
    alerts.listeners.append(told.append)

    for model in ("lab/a", "lab/b"):
        alerts.attempt_ended(failed("chutes", ErrorClass.MODEL_GONE, model_requested=model))

    assert [("lab/a" in text, "lab/b" in text) for text in told] == [(True, False), (False, True)]


@pytest.mark.parametrize(
    "record",
    [
        answered(),
        failed("chutes", ErrorClass.RATE_LIMITED),
        skipped("chutes", SkipReason.COOLDOWN, error_class=ErrorClass.AUTH),
    ],
    ids=["all well", "passes by itself", "resting for what was told already"],
)
def test_other_outcomes_raise_no_alert(record: AttemptRecord) -> None:
    with capture_logs() as logged:
        Alerts(lambda: NOON).attempt_ended(record)

    assert logged == []
