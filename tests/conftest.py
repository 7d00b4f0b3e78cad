"""Shared by every test: a skip fails the run where skips are forbidden."""

import gc
import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# Examples are judged by what they show; how fast they run on a busy machine says nothing.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_configure() -> None:
    """What collection makes stays until the end, so that searching it for garbage is wasted."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Logging is set up for the whole process, and some tests do that."""
    before, handlers = structlog.get_config(), logging.getLogger().handlers
    yield
    logging.getLogger().handlers = handlers
    structlog.configure(**before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("UNDERSTUDY_FORBID_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which is forbidden here: {report.longrepr}"
