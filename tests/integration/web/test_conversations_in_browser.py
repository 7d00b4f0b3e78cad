"""Versions, branches, greetings, files and shortcuts of the chat page in a real browser."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

from understudy.conversation.messages import AttachedText
from understudy.platforms.web.chat import Upload
from understudy.platforms.web.persona_choice import PersonaView
from understudy.routing.records import Outcome
from web_double import ScriptedReply, reply_text
from web_setup import Site, open_site

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

STOPPABLE = ScriptedReply((("local", Outcome.OK, None, "It was a dark and"),), never_ends=True)
DROP = """([name, type, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name, { type }));
  document.body.dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


async def opened(profile: BrowserContext, site: Site) -> Page:
    page = await profile.new_page()
    await page.goto(site.url)
    await page.wait_for_selector("body[data-ready]")
    return page


async def say(page: Page, text: str, *, replies: int) -> None:
    """Send a message and wait until all replies are stored."""
    await page.fill("#text", text)
    await page.keyboard.press("Enter")
    await expect(page.locator(".reply[data-state=done]")).to_have_count(replies)
    # What is shown after a reload is stored.
    await page.reload()
    await expect(page.locator(".reply[data-state=done]")).to_have_count(replies)


async def test_versions_of_a_reply_are_kept_and_the_chosen_one_goes_into_the_prompt(
    profile: BrowserContext,
) -> None:
    scripts = [reply_text(text) for text in ("First", "Second", "Third", "Last")]
    async with open_site(*scripts) as site:
        page = await opened(profile, site)
        await say(page, "Hello", replies=1)
        for number, text in ((2, "Second"), (3, "Third")):
            await page.click(".regenerate")
            await expect(page.locator(".reply .prose")).to_have_text(text)
            await expect(page.locator(".reply .versions > span")).to_have_text(f"{number}/{number}")
        await page.click("[aria-label='Earlier version']")
        await expect(page.locator(".reply .versions > span")).to_have_text("2/3")
        await expect(page.locator(".reply .prose")).to_have_text("Second")
        await expect(page.locator("[aria-label='Earlier version']")).to_be_focused()
        await page.reload()
        await expect(page.locator(".reply .prose")).to_have_text("Second")
        await say(page, "And now?", replies=2)

        last = str(site.conversations.models.prompts[-1].request.messages)
        assert "Second" in last
        assert "Third" not in last


async def test_a_stopped_reply_is_continued_where_it_ended(profile: BrowserContext) -> None:
    async with open_site(STOPPABLE, reply_text("stormy night.")) as site:
        page = await opened(profile, site)
        await page.fill("#text", "A story")
        await page.keyboard.press("Enter")
        await expect(page.locator(".reply .prose")).to_have_text("It was a dark and")
        await page.keyboard.press("Escape")
        await page.click(".continue")

        await expect(page.locator(".reply .prose")).to_have_text("It was a dark stormy night.")
        await expect(page.locator(".reply .versions > span")).to_have_text("2/2")


async def test_a_branch_is_a_new_conversation_up_to_a_reply(profile: BrowserContext) -> None:
    scripts = [reply_text(text) for text in ("First", "Second", "Other first")]
    async with open_site(*scripts) as site:
        page = await opened(profile, site)
        await say(page, "One", replies=1)
        await say(page, "Two", replies=2)
        address = page.url
        await page.locator(".reply").first.hover()
        await page.locator("[aria-label='Branch from here']").first.click()
        await expect(page.locator(".reply .prose")).to_have_text(["First"])
        await expect(page.locator(".chat-row.current a")).to_have_text("One (branch)")
        await page.goto(address)
        await expect(page.locator(".reply .prose")).to_have_text(["First", "Second"])


async def test_an_earlier_reply_is_remade_in_a_branch(profile: BrowserContext) -> None:
    scripts = [reply_text(text) for text in ("First", "Second", "Other first")]
    async with open_site(*scripts) as site:
        page = await opened(profile, site)
        await say(page, "One", replies=1)
        await say(page, "Two", replies=2)
        await page.locator(".reply").first.hover()
        await page.locator(".not-last").first.click()

        await expect(page.locator(".reply .prose")).to_have_text(["Other first"])
        await expect(page.locator(".reply .versions > span")).to_have_text("2/2")


async def test_an_exported_conversation_is_imported(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with open_site(reply_text("About *cats*")) as site:
        page = await opened(profile, site)
        await say(page, "Tell me", replies=1)
        await page.click(".more")
        async with page.expect_download() as download:
            await page.click(".chat-menu >> text=JSON")
        exported = await (await download.value).path()
        await page.set_input_files("#import-file", exported)

        await expect(page.locator(".chat-row")).to_have_count(2)
        await expect(page.locator(".bubble")).to_have_text("Tell me")
        await expect(page.locator(".reply .prose em")).to_have_text("cats")
        assert json.loads(exported.read_text())["messages"][1]["text"] == "About *cats*"
        other = tmp_path / "other.json"
        other.write_text("[]")
        await page.set_input_files("#import-file", other)
        await expect(page.locator("#status")).to_contain_text("not a JSON object")


async def test_a_name_given_to_a_conversation_is_stored(profile: BrowserContext) -> None:
    async with open_site(reply_text("Hi")) as site:
        page = await opened(profile, site)
        await say(page, "**Hello** there", replies=1)
        await expect(page.locator(".chat-row a")).to_have_text("Hello there")
        await page.click(".more")
        await page.click(".chat-menu >> text=Rename")
        await page.keyboard.type("Greetings")
        async with page.expect_response("**/title"):
            await page.keyboard.press("Enter")
        await page.reload()

        await expect(page.locator(".chat-row a")).to_have_text("Greetings")


async def test_thoughts_are_still_there_after_a_reload(profile: BrowserContext) -> None:
    script = replace(reply_text("The answer"), thoughts="First I consider it.")
    async with open_site(script) as site:
        page = await opened(profile, site)
        await say(page, "Think", replies=1)

        await expect(page.locator(".thoughts summary")).to_have_text("Thought for 1 s")
        await page.click(".thoughts summary")
        await expect(page.locator(".thoughts p")).to_have_text("First I consider it.")


async def test_a_persona_greets_with_its_picture_and_the_greeting_is_remembered(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Indeed")) as site:
        greetings = ("I am *Ada*.", "Numbers, please.")
        site.personas.append(PersonaView("ada", "Ada", greetings, has_picture=True))
        page = await opened(profile, site)
        await page.select_option("#persona", "ada")
        await expect(page.locator("#greeting em")).to_have_text("Ada")
        await expect(page.locator("#portrait")).to_have_js_property("naturalWidth", 1)
        await page.click("[aria-label='Next greeting']")
        await expect(page.locator("#greeting")).to_have_text("Numbers, please.")
        await page.fill("#text", "Seven")
        await page.keyboard.press("Enter")

        await expect(page.locator(".reply .prose")).to_have_text(["Numbers, please.", "Indeed"])
        await expect(page.locator(".speaker").first).to_have_text("Ada")
        assert "Numbers, please." in str(site.conversations.models.prompts[0].request.messages)


async def test_a_server_is_chosen_where_the_operator_allows_it(profile: BrowserContext) -> None:
    async with open_site(reply_text("Hi")) as site:
        page = await opened(profile, site)
        await expect(page.locator("#server")).to_be_hidden()
        site.servers += ["openrouter/a", "local/b"]
        await page.reload()
        async with page.expect_response("**/server"):
            await page.select_option("#server", "local/b")
        await page.reload()

        await expect(page.locator("#server option:checked")).to_have_text("local/b first")


async def test_a_dropped_text_file_goes_into_the_message_box(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await opened(profile, site)
        await page.fill("#text", "Explain this:")
        await page.evaluate(DROP, ["a.py", "text/x-python", "print('```')\n"])

        await expect(page.locator("#text")).to_have_value(
            "Explain this:\na.py:\n````py\nprint('```')\n````\n"
        )


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("a.pdf", "application/pdf", "a.pdf cannot be read here"),
        ("a.png", "image/png", "Images are switched off"),
        ("a.txt", "text/plain", "a.txt is too long for a message"),
    ],
)
async def test_a_dropped_file_that_is_not_read_is_named(
    profile: BrowserContext, name: str, kind: str, sentence: str
) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await opened(profile, site)
        await page.evaluate(DROP, [name, kind, "x" * 40_000])

        await expect(page.locator("#status")).to_contain_text(sentence)
        await expect(page.locator("#text")).to_have_value("")


async def test_the_keyboard_edits_searches_and_lists_its_shortcuts(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await opened(profile, site)
        await say(page, "Hello", replies=1)
        await page.locator("#text").press("ArrowUp")
        await expect(page.locator(".editor textarea")).to_have_value("Hello")
        await page.keyboard.press("Escape")
        await expect(page.locator(".bubble")).to_have_text("Hello")
        await page.keyboard.press("Control+k")
        await expect(page.locator("#search")).to_be_focused()
        await page.locator("#scroll").focus()
        await page.keyboard.press("?")
        await expect(page.locator("#shortcuts")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.keyboard.press("Control+Shift+O")

        await expect(page.locator("#empty")).to_be_visible()


async def _as_text(
    uploads: Sequence[Upload],
) -> tuple[tuple[AttachedText, ...], tuple[str, ...]]:
    return tuple(AttachedText(one.name, one.data.decode()) for one in uploads), ("One note.",)


async def test_attached_files_are_sent_with_the_message_and_shown(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes"), read_files=_as_text) as site:
        page = await opened(profile, site)
        for name, kind in (("a.txt", "text/plain"), ("b.pdf", "application/pdf")):
            await page.evaluate(DROP, [name, kind, f"text of {name}"])
        await expect(page.locator("#pictures button")).to_have_text(["a.txt", "b.pdf"])
        await page.click("[aria-label='Remove a.txt']")
        await expect(page.locator("#pictures button")).to_have_text(["b.pdf"])
        await page.click("#send")
        await expect(page.locator(".reply[data-state=done]")).to_be_visible()
        await expect(page.locator(".user .note")).to_have_text("One note.")
        await page.reload()

        await expect(page.locator(".files li")).to_have_text(["b.pdf"])
        assert "text of b.pdf" in str(site.conversations.models.prompts[0].request.messages)
