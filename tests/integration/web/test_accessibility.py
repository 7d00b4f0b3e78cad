"""The pages checked by axe-core, with all its rules, in both themes and on both screen sizes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page

from operator_double import failed, reply
from understudy.errors import ErrorClass
from understudy.platforms.web.persona_choice import PersonaView
from understudy.routing.records import Outcome
from waiting import LIMIT_S
from web_double import BROKE_OFF, RATE_LIMITED, ScriptedReply, attempt
from web_setup import LOCAL, NOW, Site, open_site

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

ANSWER = """# Title

A *word*, a [link](https://a.example), `code`, $x^2$ and a claim[^1].

- [x] done
- [ ] not done

| a | b |
|---|---|
| 1 | 2 |

> quoted

```python
# comment
def f(x: int) -> str:
    return "text" + str(1)
```

[^1]: Its source.
"""
REPLY = ScriptedReply(
    (
        ("openrouter", *RATE_LIMITED, ""),
        ("chutes", *BROKE_OFF, "It was"),
        ("local/koboldcpp", Outcome.OK, None, ANSWER),
    )
)
OFFLINE = ScriptedReply((("openrouter", *RATE_LIMITED, ""),), offline=True)


async def _open_login(site: Site, page: Page) -> None:
    await page.goto(f"{site.url}/login")


async def _open_empty_chat(site: Site, page: Page) -> None:
    await page.goto(site.url)
    await page.wait_for_selector("#empty:not([hidden])")


async def _open_conversation(site: Site, page: Page) -> None:
    await page.goto(site.url)
    await page.wait_for_selector("body[data-ready]")
    for text, state in (("Write *code*", "done"), ("More", "offline")):
        await page.fill("#text", text)
        await page.click("#send")
        await page.wait_for_selector(f".reply[data-state={state}]")
    await page.wait_for_selector(".hljs-keyword")


async def _open_greeting(site: Site, page: Page) -> None:
    greetings = ("Good *evening*.", "Hello.")
    site.personas.append(PersonaView("ada", "Ada", greetings, has_picture=True))
    site.servers += ["openrouter/llama", "local/koboldcpp"]
    await page.goto(site.url)
    await page.wait_for_selector("body[data-ready]")
    await page.select_option("#persona", "ada")
    await page.wait_for_selector("#greeting em")


async def _open_versions(site: Site, page: Page) -> None:
    site.conversations.models.scripts[:] = [REPLY]
    await _open_greeting(site, page)
    await page.fill("#text", "Hello")
    await page.click("#send")
    await page.click(".reply.last .regenerate")
    await page.wait_for_selector(".reply.last .versions")


async def _open_operator(site: Site, page: Page) -> None:
    cooling = replace(LOCAL, state="cooldown", reason="silent", until=NOW + 61)
    site.operator.candidates[:] = [LOCAL, cooling, replace(LOCAL, state="off", reason="no key")]
    first = failed("openrouter", NOW - 60, ErrorClass.RATE_LIMITED)
    second = attempt("local/koboldcpp", ts=NOW - 59, cost_usd=0.5, first_output_ms=300)
    site.operator.ledger.replies = [reply("r1", NOW - 60, first, second)]
    await page.goto(site.platform.new_login_link())
    await page.wait_for_selector(".plot")
    await page.fill("#reply-id", "r1")
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".try")
    await page.fill("#key-form [name=name]", "notes")
    await page.click("#key-form button")
    await page.wait_for_selector("#new-key code")
    await page.get_by_role("button", name="Change the limits of notes").click()
    await page.locator("#log > summary").click()
    await page.locator("#config > summary").click()
    await page.fill("#config-text", "modle: {}")
    await page.click("#config-save")
    await page.wait_for_selector("#config-mistakes li")
    await page.get_by_role("button", name="Test local").first.click()
    await page.wait_for_selector("text=✓")


PAGES: dict[str, Callable[[Site, Page], Awaitable[None]]] = {
    "login": _open_login,
    "empty chat": _open_empty_chat,
    "conversation": _open_conversation,
    "greeting": _open_greeting,
    "versions": _open_versions,
    "operator": _open_operator,
}
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_no_page_has_serious_accessibility_violations(
    browser: Browser, name: str, size: str, theme: Literal["light", "dark"]
) -> None:
    width, height = SIZES[size]
    async with (
        asyncio.timeout(LIMIT_S),
        open_site(REPLY, OFFLINE) as site,
        await browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            reduced_motion="reduce",
            is_mobile=size == "phone",
            has_touch=size == "phone",
        ) as context,
    ):
        page = await context.new_page()
        await PAGES[name](site, page)
        found = (await Axe().run(page)).response["violations"]

    serious = [
        f"{violation['id']}: {node['html'][:120]} {node['failureSummary'][:300]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert serious == []


SMALL_TARGETS = """() => [...document.querySelectorAll("button, select, input, textarea, a")]
  .filter((element) => element.checkVisibility() && !element.closest(".prose, .bubble, .skip"))
  .map((element) => [element, element.getBoundingClientRect()])
  .filter(([, box]) => box.width > 1 && (box.height < 43.5 || box.width < 43.5))
  .map(([element, box]) => `${element.outerHTML.slice(0, 80)} ${box.width}x${box.height}`)"""


@pytest.mark.parametrize("name", PAGES)
async def test_touch_targets_have_44_pixels_on_a_phone(browser: Browser, name: str) -> None:
    width, height = SIZES["phone"]
    async with (
        asyncio.timeout(LIMIT_S),
        open_site(REPLY, OFFLINE) as site,
        await browser.new_context(
            viewport={"width": width, "height": height}, is_mobile=True, has_touch=True
        ) as context,
    ):
        page = await context.new_page()
        await PAGES[name](site, page)

        assert await page.evaluate(SMALL_TARGETS) == []
