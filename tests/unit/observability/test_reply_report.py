"""The report of a reply for people."""

import pytest

from sample_records import NOON, answered, attempt, failed, reply, skipped
from understudy.errors import ErrorClass, HoldScope
from understudy.llm.client import Phase
from understudy.llm.messages import Usage, UsageSource
from understudy.observability.reply_report import format_runs, money, unknown_reply
from understudy.routing.records import (
    AttemptRole,
    BreakerChange,
    CostSource,
    OfflineReason,
    Outcome,
    ReplyOutcome,
    SkipReason,
)


def test_a_failed_over_reply_lists_every_attempt() -> None:
    limited = failed(
        "openrouter",
        ErrorClass.RATE_LIMITED,
        http_status=429,
        retry_after_s=30.0,
        breaker=BreakerChange(HoldScope.KEY, "closed", "open", 30.0),
        held_until=NOON + 30,
    )
    resting = skipped(
        "chutes",
        SkipReason.COOLDOWN,
        error_class=ErrorClass.OVERLOADED,
        held_until=NOON + 4,
        model_requested="lab/big",
    )
    won = answered(
        "local",
        label="local/koboldcpp",
        ts=NOON + 1,
        model_served="tiny",
        role=AttemptRole.PROBE,
        cost_usd=0.0,
        cost_source=CostSource.UNBILLED,
        breaker=BreakerChange(HoldScope.ENDPOINT, "half_open", "closed", 0.0),
        degraded=("images",),
    )

    assert format_runs((reply(limited, resting, won),)) == (
        "Reply r1, discord, 2026-09-21 14:13:20 UTC\n"
        "Delivered, 1.4 s, first text after 0.3 s, "
        "412→57 tokens (100 from the cache, 5 of them thoughts) in all, $0.00.\n"
        "  14:13:20  openrouter (lab/model): rate-limited (HTTP 429) after 0.1 s\n"
        "            asked us to wait 30 s\n"
        "            its key is in cooldown until 14:13:50\n"
        "  14:13:20  chutes (lab/big): skipped, cooldown after overloaded until 14:13:24\n"
        "  14:13:21  local/koboldcpp (tiny): answered after 1.3 s, probe\n"
        "            its server is in use again\n"
        "            first output after 0.2 s\n"
        "            left out for it: images\n"
        "            412→57 tokens (100 from the cache, 5 of them thoughts), "
        "no bill: an engine of your own"
    )


def test_an_order_that_was_chosen_for_the_reply_is_named() -> None:
    report = format_runs((reply(answered(), order_name="fast (chosen here)"),))

    assert report.splitlines()[2] == "Order: fast (chosen here)."
    assert "Order" not in format_runs((reply(answered()),))


def test_an_offline_reply_names_the_reason_and_its_late_answer_follows() -> None:
    offline = reply(
        failed("openrouter", ErrorClass.AUTH, http_status=401),
        offline_reason=OfflineReason.CONFIG,
        retry_at=NOON + 60,
    )
    late = reply(answered(ts=NOON + 60, t_first_output_ms=None), ts=NOON + 60)

    report = format_runs((offline, late))

    assert "No provider could answer: keys or credit need their operator, 1.4 s" in report
    assert "better from 14:14:20." in report
    assert "Reply r1 (try 2), discord, 2026-09-21 14:14:20 UTC" in report
    assert "key refused (HTTP 401) after 0.1 s" in report


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"usage": Usage(9, 4, source=UsageSource.ESTIMATED), "cost_usd": None},
            "9→4 tokens (estimated), cost unknown",
        ),
        (
            {"usage": Usage(9, 4), "cost_usd": 0.00042, "cost_source": CostSource.LISTED},
            "9→4 tokens, $0.00042 by its price list",
        ),
        ({"usage": None, "cost_usd": None}, "it reported no tokens, cost unknown"),
    ],
)
def test_the_source_of_tokens_and_cost_is_shown(fields: dict[str, object], line: str) -> None:
    assert format_runs((reply(answered(**fields)),)).splitlines()[-1].strip() == line


def test_an_attempt_that_was_cut_off_may_still_be_billed() -> None:
    stopped = attempt(outcome=Outcome.CANCELLED, phase=Phase.STREAMING, maybe_billed=True)

    report = format_runs((reply(stopped, outcome=ReplyOutcome.CANCELLED),))

    assert "Stopped, 1.4 s." in report
    assert report.endswith("it reported no tokens and may still bill them")


def test_an_unknown_id_gets_a_message_without_escape_sequences() -> None:
    report = unknown_reply("\x1b[31mnonsense" + "x" * 500)

    assert report.startswith("No reply '[31mnonsensexxx")
    assert "\x1b" not in report
    assert len(report) < 300


@pytest.mark.parametrize(
    ("usd", "text"),
    [(12.5, "$12.50"), (0.0, "$0.00"), (0.0042, "$0.0042"), (0.0000123, "$0.0000123")],
)
def test_money_has_as_many_decimals_as_it_needs(usd: float, text: str) -> None:
    assert money(usd) == text
