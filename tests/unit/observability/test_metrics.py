"""The series of /metrics: names, labels and values."""

from prometheus_client.parser import text_string_to_metric_families

from sample_records import answered, attempt, failed, reply, skipped
from understudy.errors import ErrorClass
from understudy.llm.client import Phase
from understudy.llm.messages import Usage, UsageSource
from understudy.observability.metrics import OPEN, CandidateGauges, Metrics
from understudy.routing.records import (
    AttemptRecord,
    CostSource,
    Outcome,
    SkipReason,
)

EXPECTED = {
    "router_attempts_total": {"candidate", "outcome", "error_class", "role"},
    "router_requests_total": {"sink", "outcome"},
    "router_failovers_total": {"from", "to", "error_class"},
    "router_candidate_state": {"candidate", "scope"},
    "router_open_seconds_total": set(),
    "router_time_to_first_visible_seconds_count": set(),
    "router_idle_gap_seconds_count": set(),
    "router_inflight": {"candidate"},
    "router_queue_seconds_count": set(),
    "router_skips_total": {"candidate", "reason"},
    "router_cost_usd_total": set(),
    "router_tokens_estimated_total": set(),
    "gen_ai_client_inference_duration_seconds_count": {
        "gen_ai_provider_name",
        "gen_ai_request_model",
        "error_type",
    },
    "gen_ai_client_inference_time_to_first_chunk_seconds_count": {
        "gen_ai_provider_name",
        "gen_ai_request_model",
    },
    "gen_ai_client_inference_usage_input_tokens_total": {
        "gen_ai_provider_name",
        "gen_ai_request_model",
        "gen_ai_token_modality",
    },
}


def observe(metrics: Metrics, *attempts: AttemptRecord) -> None:
    for record in attempts:
        metrics.attempt_ended(record)
    metrics.reply_ended(reply(*attempts))


def series(metrics: Metrics) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    body, _ = metrics.page()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[key] = sample.value
    return found


def test_the_exported_names_and_labels_are_the_documented_ones() -> None:
    metrics = Metrics(lambda: (CandidateGauges("local/tiny", {"E": OPEN}, 1),))
    observe(
        metrics,
        failed("openrouter", ErrorClass.RATE_LIMITED),
        skipped("chutes", SkipReason.COOLDOWN),
        answered("local"),
    )

    found = series(metrics)

    labels = {name: {k for key in found[name] for k, _ in key} for name in EXPECTED}
    assert labels == EXPECTED


def test_a_failed_over_reply_counts_each_attempt_and_one_failover() -> None:
    metrics = Metrics()
    observe(
        metrics,
        failed("openrouter", ErrorClass.RATE_LIMITED),
        skipped("chutes", SkipReason.COOLDOWN),
        answered("local"),
    )

    found = series(metrics)

    assert list(found["router_attempts_total"].values()) == [1.0, 1.0]
    assert found["router_failovers_total"] == {
        (
            ("error_class", "rate_limited"),
            ("from", "openrouter/lab/model"),
            ("to", "local/lab/model"),
        ): 1.0
    }
    assert found["router_skips_total"] == {
        (("candidate", "chutes/lab/model"), ("reason", "cooldown")): 1.0
    }
    assert found["router_requests_total"] == {(("outcome", "delivered"), ("sink", "discord")): 1.0}


def test_tokens_and_cost_of_discarded_attempts_count_too() -> None:
    metrics = Metrics()
    broken = Usage(100, 7, source=UsageSource.ESTIMATED)
    observe(
        metrics,
        failed("openrouter", ErrorClass.TRUNCATED_STREAM, usage=broken, cost_usd=0.5),
        answered("openrouter", usage=Usage(100, 50), cost_usd=0.25),
    )

    found = series(metrics)

    assert found["router_cost_usd_total"] == {(): 0.75}
    assert found["router_tokens_estimated_total"] == {(): 107.0}
    assert sum(found["gen_ai_client_inference_usage_output_tokens_total"].values()) == 57.0


def test_an_unknown_cost_adds_nothing_and_a_retry_of_the_same_candidate_is_no_failover() -> None:
    metrics = Metrics()
    observe(
        metrics,
        failed("openrouter", ErrorClass.STALE_CONNECTION),
        answered("openrouter", cost_usd=None, cost_source=CostSource.UNKNOWN),
    )

    found = series(metrics)

    assert found["router_cost_usd_total"] == {(): 0.0}
    assert "router_failovers_total" not in found


def test_what_a_server_says_of_itself_is_no_label() -> None:
    metrics = Metrics()
    canary = "say-nothing-of-this"
    observe(
        metrics,
        attempt(
            outcome=Outcome.CANCELLED,
            phase=Phase.STREAMING,
            model_served=canary,
            provider_code=canary,
            upstream_id=canary,
            finish_reason=canary,
        ),
    )

    assert canary not in metrics.page()[0].decode()


def test_standings_are_read_when_the_page_is_and_time_left_out_adds_up() -> None:
    standings = [CandidateGauges("local/tiny", {"E": OPEN, "M": 0}, 2)]
    moments = iter((0.0, 10.0, 25.0, 40.0))
    metrics = Metrics(lambda: standings, lambda: next(moments))

    assert series(metrics)["router_candidate_state"] == {
        (("candidate", "local/tiny"), ("scope", "E")): 2.0,
        (("candidate", "local/tiny"), ("scope", "M")): 0.0,
    }
    standings[0] = CandidateGauges("local/tiny", {"E": 0})

    found = series(metrics)
    assert found["router_candidate_state"] == {(("candidate", "local/tiny"), ("scope", "E")): 0.0}
    assert found["router_open_seconds_total"] == {(): 15.0}
    assert series(metrics)["router_open_seconds_total"] == {(): 15.0}
