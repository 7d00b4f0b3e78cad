"""The Grafana dashboard asks only for what is exported, and for all the router's own series."""

import json
import re
from pathlib import Path

from understudy.observability.metrics import CandidateGauges, Metrics

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana-dashboard.json"
NAME = re.compile(r"\b(?:router|gen_ai)_\w+(?=[{\[)\s]|$)")
SUFFIX = re.compile(r"_(?:bucket|count|sum|total)$")


def asked() -> set[str]:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    grouping = re.compile(r"by \([^)]*\)")
    return {name for e in expressions for name in NAME.findall(grouping.sub("", e))}


def exported() -> set[str]:
    metrics = Metrics(lambda: (CandidateGauges("local/tiny", {"E": 0}),))
    return {family.name for family in metrics.registry.collect()}


def test_every_series_of_the_dashboard_is_exported() -> None:
    assert {SUFFIX.sub("", name) for name in asked()} <= exported()


def test_every_series_of_the_router_is_on_the_dashboard() -> None:
    own = {name for name in exported() if name.startswith("router_")}

    assert own <= {SUFFIX.sub("", name) for name in asked()}
