"""The series of several workers on one page."""

import os
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from sample_records import answered, reply
from understudy.observability.metrics import CONTENT_TYPE, Metrics
from understudy.observability.worker_metrics import WorkerMetrics, open_worker_metrics

NOW = 1_790_000_000.0


def worker(folder: Path, number: int, replies: int) -> WorkerMetrics:
    metrics = Metrics()
    for _ in range(replies):
        metrics.attempt_ended(answered())
        metrics.reply_ended(reply(answered()))
    return WorkerMetrics(metrics.page, folder / "metrics", number, 2, lambda: NOW)


def answers(page: bytes) -> dict[str, float]:
    """The attempts that each worker's series count."""
    return {
        sample.labels["worker"]: sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == "router_attempts_total"
    }


def touch(folder: Path, at: float) -> None:
    for file in folder.iterdir():
        os.utime(file, (at, at))


async def test_each_worker_shows_the_series_of_all(tmp_path: Path) -> None:
    one, other = worker(tmp_path, 1, 2), worker(tmp_path, 2, 3)
    for each in (one, other):
        await each.exchange()
        touch(tmp_path, NOW)
    await one.exchange()

    shown = one.page(), other.page()

    assert [answers(page) for page, _ in shown] == [{"1": 2.0, "2": 3.0}] * 2
    assert {media_type for _, media_type in shown} == {CONTENT_TYPE}


async def test_each_family_is_described_once(tmp_path: Path) -> None:
    one, other = worker(tmp_path, 1, 1), worker(tmp_path, 2, 1)
    await one.exchange()
    touch(tmp_path, NOW)
    await other.exchange()

    described = [
        line for line in other.page()[0].decode().splitlines() if line.startswith("# TYPE")
    ]

    assert len(described) == len(set(described)) > 5


async def test_the_series_of_a_worker_that_ended_disappear(tmp_path: Path) -> None:
    one, other = worker(tmp_path, 1, 1), worker(tmp_path, 2, 1)
    await one.exchange()
    touch(tmp_path, NOW - 60)

    await other.exchange()

    assert answers(other.page()[0]) == {"2": 1.0}


async def test_a_worker_that_stops_leaves_no_file(tmp_path: Path) -> None:
    metrics = Metrics()
    async with open_worker_metrics(metrics.page, tmp_path / "metrics", 1, 2, lambda: NOW) as shared:
        await shared.exchange()
        written = [file.name for file in tmp_path.iterdir()]

    assert written == ["metrics-1"]
    assert not list(tmp_path.iterdir())


async def test_an_exchange_that_was_under_way_at_the_end_leaves_no_file(tmp_path: Path) -> None:
    async with open_worker_metrics(
        Metrics().page, tmp_path / "metrics", 1, 2, lambda: NOW
    ) as shared:
        pass
    await shared.exchange()

    assert not list(tmp_path.iterdir())
