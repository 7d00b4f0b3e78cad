from operator_double import failed
from understudy.errors import ErrorClass
from understudy.platforms.web.operator_reports import percentile, server_figures
from understudy.routing.records import Outcome
from web_double import attempt


def test_figures_of_a_server_cover_its_ended_attempts() -> None:
    good = [attempt("a", ts=float(n), first_output_ms=100 * n) for n in range(1, 21)]
    bad = [failed("a", 30.0, ErrorClass.RATE_LIMITED), failed("a", 25.0, ErrorClass.OVERLOADED)]
    skipped = attempt("a", Outcome.SKIPPED, ts=40.0)
    stopped = attempt("a", Outcome.CANCELLED, ts=41.0)

    figures = server_figures([*good, *bad, skipped, stopped])["a"]

    assert figures["attempts"] == 22
    assert figures["success"] == 20 / 22
    assert (figures["p50_ms"], figures["p95_ms"]) == (1000, 1900)
    assert (figures["last_error"], figures["last_error_at"]) == ("rate-limited", 30.0)


def test_a_server_without_output_has_no_percentiles() -> None:
    figures = server_figures([failed("a", 1.0, ErrorClass.CONNECT_REFUSED)])["a"]

    assert (figures["success"], figures["p50_ms"]) == (0, None)
    assert percentile([], 0.5) is None
