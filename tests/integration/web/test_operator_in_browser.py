"""The operator's page in Chromium."""

from dataclasses import replace

import pytest
from playwright.async_api import BrowserContext, Page, expect
from structlog.testing import capture_logs

from operator_double import failed, reply
from understudy.errors import ErrorClass
from web_double import ScriptedReply, attempt
from web_setup import LOCAL, NOW, Site, open_site

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]
YES = ScriptedReply()


async def operators_page(profile: BrowserContext, site: Site) -> Page:
    page = await profile.new_page()
    await page.goto(site.platform.new_login_link())
    await page.wait_for_selector(".plot")
    return page


async def test_the_operator_sees_figures_usage_and_the_program(profile: BrowserContext) -> None:
    async with open_site(YES) as site:
        first = failed("local/koboldcpp", NOW - 120, ErrorClass.RATE_LIMITED)
        second = attempt("local/koboldcpp", ts=NOW - 59, cost_usd=0.5, first_output_ms=300)
        site.operator.ledger.replies = [reply("r1", NOW - 60, first, second)]
        page = await operators_page(profile, site)

        figures = page.locator("#candidates .figures")
        await expect(figures).to_contain_text("50 % of 2 attempts · first token 300 ms (p50)")
        await expect(figures).to_contain_text("last error: rate-limited")
        await expect(figures).to_contain_text("$0.50 today")
        await expect(page.locator("#usage-table td").first).to_have_text("rehearsal/eliza")
        about = page.locator("#about")
        for fact in ("1.0", "2 hours 1 min", "2ba54e70", "host-1", "connecting"):
            await expect(about).to_contain_text(fact)


async def test_a_server_is_shown_with_its_address_abilities_and_queue(
    profile: BrowserContext,
) -> None:
    async with open_site(YES) as site:
        site.operator.candidates[:] = [
            replace(LOCAL, address="http://127.0.0.1:5001", context_length=8192, vision=False,
                    running=1, waiting=2)
        ]  # fmt: skip
        page = await operators_page(profile, site)

        row = page.locator("#candidates li")
        await expect(row.locator(".facts")).to_have_text(
            "http://127.0.0.1:5001 · context 8,192 · text only"
        )
        await expect(row.locator(".how")).to_have_text("ready · 1 running · 2 queued")


async def test_a_server_is_tested_from_the_page(profile: BrowserContext) -> None:
    async with open_site(YES) as site:
        page = await operators_page(profile, site)
        await page.get_by_role("button", name="Test local").click()

        await expect(page.locator(".tested")).to_have_text(
            "✓ m · ready · first token 310 ms · 42 tokens/s · it reports no usage"
        )
        assert site.operator.tests == ["local"]


async def test_stored_attempts_are_searched_filtered_and_shown_in_pages(
    profile: BrowserContext,
) -> None:
    async with open_site(YES) as site:
        tried = [attempt("local/koboldcpp", ts=NOW - 100 - n) for n in range(60)]
        limited = failed("openrouter", NOW - 60, ErrorClass.RATE_LIMITED)
        site.operator.ledger.replies = [reply("r1", NOW - 60, *tried), reply("r2", NOW, limited)]
        page = await operators_page(profile, site)
        rows = page.locator("#live tbody tr")
        site.operator.feed.attempt_ended(failed("chutes", NOW, ErrorClass.OVERLOADED))
        await expect(rows.first).to_contain_text("chutes")

        await page.fill("#filter", "KOBOLD")
        await expect(rows).to_have_count(50)
        await page.click("#older")
        await expect(rows).to_have_count(10)
        await expect(page.locator("#page-note")).to_have_text("Page 2")
        await page.click("#newer")
        await expect(rows).to_have_count(50)
        await page.fill("#filter", "")
        await page.select_option("#outcome", "error")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("openrouter")
        await page.get_by_role("button", name="Live").click()
        await expect(rows.first).to_contain_text("chutes")


async def test_the_end_of_the_log_is_shown_and_goes_on(profile: BrowserContext) -> None:
    async with open_site(YES) as site:
        site.operator.log.add("\x1b[1mfirst\x1b[0m <b>line</b>\n")
        page = await operators_page(profile, site)
        await page.locator("#log summary").click()
        lines = page.locator("#log-lines")
        await expect(lines).to_have_text("first <b>line</b>")
        site.operator.log.add(b'{"event":"second"}')

        await expect(lines).to_contain_text('{"event":"second"}')
        await page.fill("#log-filter", "SECOND")
        await expect(lines).to_have_text('{"event":"second"}')


async def test_changes_are_in_the_log_with_the_address_they_came_from(
    profile: BrowserContext,
) -> None:
    async with open_site(YES) as site:
        page = await operators_page(profile, site)
        with capture_logs() as events:
            await page.select_option("#level", "debug")
            await expect(page.locator("#status")).to_have_text("Log level: debug.")

    assert events == [
        {
            "event": "operator.action",
            "log_level": "info",
            "action": "level",
            "target": "debug",
            "peer": "127.0.0.1",
        }
    ]
