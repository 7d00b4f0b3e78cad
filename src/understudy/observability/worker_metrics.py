"""The Prometheus series of all workers on one page.

The workers of one machine share a port, so a scrape reaches any of them. Each writes its series
into a file every few seconds, and the one that is asked adds those of the others; the label
`worker` tells them apart.
"""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from understudy.files import PRIVATE, replace_file

_log = structlog.get_logger()
_WRITE_EVERY_S = 5.0
_KEPT_S = 30.0
"""A file that is older belongs to a worker that has ended."""

ReadPage = Callable[[], tuple[bytes, str]]


class WorkerMetrics:
    """Opened with `open_worker_metrics`. `page` is that of this worker alone."""

    def __init__(
        self, page: ReadPage, file: Path, number: int, count: int, wall: Callable[[], float]
    ) -> None:
        self._page = page
        self._file = file
        self._number = number
        self._others = [other for other in range(1, count + 1) if other != number]
        self._wall = wall
        self._read: Mapping[int, str] = {}
        self._writing = threading.Lock()
        self._removed = False

    def page(self) -> tuple[bytes, str]:
        """Return the series of all workers, and their media type."""
        own, media_type = self._page()
        return merged({self._number: own.decode(), **self._read}), media_type

    async def exchange(self) -> None:
        """Write the series of this worker, and read those of the others."""
        own = self._page()[0]
        self._read = await asyncio.to_thread(self._exchange, own)

    async def run(self) -> None:
        """Exchange until cancelled."""
        while True:
            try:
                await self.exchange()
            except OSError as error:
                _log.warning("metrics.not_kept", file=str(self._file), error=error.strerror)
            await asyncio.sleep(_WRITE_EVERY_S)

    def remove(self) -> None:
        """Remove the file for good. Blocking: an exchange that was cancelled may still write."""
        with self._writing, suppress(OSError):
            self._removed = True
            self._path(self._number).unlink(missing_ok=True)

    def _exchange(self, own: bytes) -> dict[int, str]:
        with self._writing:
            if not self._removed:
                self._write(own)
        pages = {other: self._page_of(other) for other in self._others}
        return {other: page for other, page in pages.items() if page}

    def _write(self, own: bytes) -> None:
        path = self._path(self._number)
        new = path.with_name(f".{path.name}.new")
        # Without fsync: after a crash of the system the file is of no use.
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "wb") as file:
            file.write(own)
        replace_file(new, path)

    def _page_of(self, other: int) -> str:
        with suppress(OSError), self._path(other).open() as file:
            if self._wall() - os.fstat(file.fileno()).st_mtime < _KEPT_S:
                return file.read()
        return ""

    def _path(self, number: int) -> Path:
        return self._file.with_name(f"{self._file.name}-{number}")


@asynccontextmanager
async def open_worker_metrics(
    page: ReadPage, file: Path, number: int, count: int, wall: Callable[[], float]
) -> AsyncGenerator[WorkerMetrics]:
    """Exchange with the other workers until exit; the files are named after `file`."""
    shared = WorkerMetrics(page, file, number, count, wall)
    task = asyncio.create_task(shared.run(), name="worker metrics")
    try:
        yield shared
    finally:
        task.cancel()
        await asyncio.wait({task})
        await asyncio.to_thread(shared.remove)


def merged(pages: Mapping[int, str]) -> bytes:
    """One page of the pages of several workers."""
    families: dict[str, Metric] = {}
    for worker, page in sorted(pages.items()):
        for family in text_string_to_metric_families(page):
            known = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                labels = {**sample.labels, "worker": str(worker)}
                known.add_sample(sample.name, labels, sample.value)
    registry = CollectorRegistry()
    registry.register(_Families(families.values()))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families
