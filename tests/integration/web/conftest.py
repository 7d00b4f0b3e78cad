"""Chromium for the pages' tests: one browser for all of them, a fresh profile for each."""

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

PATHS = ("chromium", "chromium-browser", "google-chrome")


# A busy machine draws late; what never comes fails all the same.
expect.set_options(timeout=30_000)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    found = next(filter(None, map(shutil.which, PATHS)), None)
    if found is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="session")
async def profile(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser without history; any script error or refused asset on its pages fails the test."""
    context = await browser.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(30_000)
    troubles: list[str] = []
    context.on("weberror", lambda error: troubles.append(str(error.error)))
    context.on(
        "console", lambda said: troubles.append(said.text) if "Policy" in said.text else None
    )
    yield context
    await context.close()
    assert troubles == []
