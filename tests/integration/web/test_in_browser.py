"""The pages in a real browser."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace

import pytest
from playwright.async_api import Browser, BrowserContext, FilePayload, Page, Route, expect

from operator_double import failed, reply
from understudy.conversation.messages import ImageRef
from understudy.errors import ErrorClass
from understudy.llm.messages import ImagePart
from understudy.platforms.web.chat import ImageActions, Upload
from understudy.platforms.web.persona_choice import PersonaView
from understudy.routing.records import Outcome
from web_double import BROKE_OFF, RATE_LIMITED, ScriptedReply, attempt, reply_text
from web_setup import DOT, LOCAL, NOW, Site, open_site

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

FAILOVER = ScriptedReply(
    (
        ("openrouter", *RATE_LIMITED, ""),
        ("chutes", *BROKE_OFF, "It was a dark and"),
        ("local/koboldcpp", Outcome.OK, None, "A voice from the **wings**."),
    ),
    pause_s=0.02,
)


PASTE = """(base64) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "dot.png", { type: "image/png" }));
  const pasting = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
  document.getElementById("text").dispatchEvent(pasting);
}"""
PASTE_TEXT_AND_PICTURE = """(base64) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.setData("text/plain", "1\\t2");
  data.items.add(new File([bytes], "cells.png", { type: "image/png" }));
  const pasting = new ClipboardEvent(
    "paste", { clipboardData: data, bubbles: true, cancelable: true });
  return document.getElementById("text").dispatchEvent(pasting);
}"""


async def _store_dots(
    uploads: Sequence[Upload], _text: str
) -> tuple[tuple[ImageRef, ...], tuple[str, ...]]:
    return tuple(ImageRef("a" * 64, "image/png", 1, 1, upload.name) for upload in uploads), ()


async def _find_dot(digest: str) -> ImagePart | None:
    return ImagePart(DOT, "image/png", 1, 1, "dot.png", digest)


DOTS = ImageActions(_store_dots, _find_dot)


async def opened(profile: BrowserContext, site: Site) -> Page:
    page = await profile.new_page()
    await page.goto(site.url)
    await page.wait_for_selector("body[data-ready]")
    return page


async def say(page: Page, text: str) -> None:
    await page.fill("#text", text)
    await page.keyboard.press("Enter")


async def test_a_failed_over_reply_shows_its_route_and_only_the_last_text(
    profile: BrowserContext,
) -> None:
    async with open_site(FAILOVER) as site:
        page = await opened(profile, site)
        await say(page, "Who is there?")

        done = page.locator(".reply[data-state=done]")
        await expect(done.locator(".prose")).to_have_text("A voice from the wings.")
        await expect(done.locator(".prose strong")).to_have_text("wings")
        await expect(done.locator(".route li")).to_have_text(
            [
                "rate-limited: openrouter",
                "broke off: chutes",
                "answered: local/koboldcpp · 1.3 s, 412→57 tokens",
            ]
        )
        await expect(page.locator("#announcer")).to_have_text("Understudy: A voice from the wings.")


async def test_a_reload_restores_the_conversation_and_new_starts_another(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Hello yourself")) as site:
        page = await opened(profile, site)
        await say(page, "Hello")
        await page.wait_for_selector(".reply[data-state=done]")
        await page.reload()

        await expect(page.locator(".bubble")).to_have_text("Hello")
        await expect(page.locator(".prose")).to_have_text("Hello yourself")
        await page.click("#new")
        await expect(page.locator("#empty")).to_be_visible()
        await page.click("#chats a")
        await expect(page.locator(".prose")).to_have_text("Hello yourself")


async def delete_conversation(page: Page) -> None:
    await page.click(".more")
    await page.click(".chat-menu >> text=Delete")


async def test_a_deleted_conversation_can_be_restored_for_some_seconds(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Hello yourself")) as site:
        page = await opened(profile, site)
        await page.clock.install()
        await say(page, "Hello")
        await page.wait_for_selector(".reply[data-state=done]")
        await delete_conversation(page)
        await expect(page.locator(".chat-row")).to_have_count(0)
        await page.click(".undo")
        await expect(page.locator(".prose")).to_have_text("Hello yourself")
        await delete_conversation(page)
        await page.clock.fast_forward(7000)
        await page.clock.resume()
        await page.reload()

        await expect(page.locator("#empty")).to_be_visible()
        await expect(page.locator(".chat-row")).to_have_count(0)


async def test_a_conversation_is_found_renamed_and_exported(profile: BrowserContext) -> None:
    async with open_site(reply_text("About *cats*"), reply_text("About dogs")) as site:
        page = await opened(profile, site)
        for text in ("One", "Two"):
            await page.click("#new")
            await say(page, text)
            await page.wait_for_selector(".reply[data-state=done]")
        await page.fill("#search", "CATS")
        await expect(page.locator(".chat-row")).to_have_text(["One⋯"])
        await page.click(".more")
        await page.click(".chat-menu >> text=Rename")
        await page.keyboard.type("Animals")
        await page.keyboard.press("Enter")
        await expect(page.locator(".chat-row a")).to_have_text("Animals")
        await page.click(".more")
        async with page.expect_download() as download:
            await page.click(".chat-menu >> text=Markdown")

        exported = (await (await download.value).path()).read_text()
        assert "**You** (" in exported
        assert exported.endswith("About *cats*\n")


async def test_an_edited_message_replaces_everything_after_it(profile: BrowserContext) -> None:
    scripts = [reply_text(text) for text in ("First", "Second", "Third")]
    async with open_site(*scripts) as site:
        page = await opened(profile, site)
        for number, text in enumerate(("One", "Two"), start=1):
            await say(page, text)
            await expect(page.locator(".reply[data-state=done]")).to_have_count(number)
        # What is shown after a reload is stored.
        await page.reload()
        await expect(page.locator(".reply[data-state=done]")).to_have_count(2)
        await page.locator(".edit").first.click()
        await page.fill(".editor textarea", "One again")
        await page.click(".editor >> text=Send")

        # A list waits for the number of elements too; one element would have to be the only one.
        await expect(page.locator(".reply .prose")).to_have_text(["Third"])
        await expect(page.locator(".bubble")).to_have_text(["One again"])
        await page.reload()
        await expect(page.locator(".bubble")).to_have_text("One again")
        last = str(site.conversations.models.prompts[-1].request.messages)
        assert "One again" in last
        assert "Two" not in last


async def test_a_persona_is_chosen_for_one_conversation(profile: BrowserContext) -> None:
    async with open_site(reply_text("Hi")) as site:
        site.personas += [PersonaView("rufus", "Rufus"), PersonaView("ada", "Ada")]
        page = await opened(profile, site)
        chosen = page.locator("#persona option:checked")
        await expect(chosen).to_have_text("Understudy (default)")
        async with page.expect_response("**/persona"):
            await page.select_option("#persona", "ada")
        await page.reload()
        await expect(chosen).to_have_text("Ada")
        await page.click("#new")

        await expect(chosen).to_have_text("Understudy (default)")


async def test_thoughts_of_the_model_are_shown_in_a_fold(profile: BrowserContext) -> None:
    script = replace(reply_text("The answer"), thoughts="First I <b>consider</b> it.")
    async with open_site(script) as site:
        page = await opened(profile, site)
        await say(page, "Think")
        await page.wait_for_selector(".reply[data-state=done]")
        await expect(page.locator(".thoughts summary")).to_have_text("Thought for 1 s")
        await expect(page.locator(".thoughts p")).to_be_hidden()
        await page.click(".thoughts summary")

        await expect(page.locator(".thoughts p")).to_have_text("First I <b>consider</b> it.")
        await expect(page.locator(".prose")).to_have_text("The answer")


async def test_equal_steps_of_a_route_are_folded(profile: BrowserContext) -> None:
    down = ("a", Outcome.ERROR, ErrorClass.CONNECT_REFUSED, "")
    script = ScriptedReply((down, down, down, ("b", Outcome.OK, None, "Hi")))
    async with open_site(script) as site:
        page = await opened(profile, site)
        await say(page, "Hello")

        await expect(page.locator(".reply[data-state=done] .route li").first).to_have_text(
            "not running: a ×3"
        )


async def test_escape_stops_the_reply_and_keeps_its_text(profile: BrowserContext) -> None:
    play = ScriptedReply(reply_text("Half a line").attempts, never_ends=True)
    async with open_site(play) as site:
        page = await opened(profile, site)
        await say(page, "Hello")
        await expect(page.locator(".reply[data-state=writing] .prose")).to_have_text("Half a line")
        await expect(page.locator("#stop")).to_be_visible()
        await page.keyboard.press("Escape")

        stopped = page.locator(".reply[data-state=stopped]")
        await expect(stopped.locator(".prose")).to_have_text("Half a line")
        await expect(page.locator("#stop")).to_be_hidden()


async def test_regenerate_replaces_the_reply_in_its_place(profile: BrowserContext) -> None:
    async with open_site(reply_text("First"), reply_text("Second")) as site:
        page = await opened(profile, site)
        await say(page, "Hello")
        await page.click(".regenerate")

        await expect(page.locator(".reply .prose")).to_have_text("Second")
        await expect(page.locator(".reply")).to_have_count(1)


async def test_a_reply_stopped_before_its_first_word_can_be_regenerated(
    profile: BrowserContext,
) -> None:
    slow = ScriptedReply(reply_text("Never").attempts, starts=asyncio.Event())
    async with open_site(reply_text("First"), slow, reply_text("Second")) as site:
        page = await opened(profile, site)
        await say(page, "One")
        await expect(page.locator(".reply[data-state=done]")).to_have_count(1)
        await say(page, "Two")
        await page.click("#stop")
        await expect(page.locator(".user .note")).to_contain_text("Stopped")
        await page.reload()
        await page.click(".user .regenerate")

        await expect(page.locator(".reply .prose")).to_have_text(["First", "Second"])
        await expect(page.locator(".user .note")).to_have_count(0)


async def test_escape_right_after_enter_stops_the_reply(profile: BrowserContext) -> None:
    async with open_site(ScriptedReply(reply_text("Half").attempts, never_ends=True)) as site:
        page = await opened(profile, site)
        await page.route("**/messages", _delayed)
        await say(page, "Hello")
        await page.keyboard.press("Escape")

        await expect(page.locator(".reply[data-state=stopped], .user .note")).to_be_visible()


async def _delayed(route: Route) -> None:
    # Long enough for the key press to come first; nothing depends on its length.
    await asyncio.sleep(0.3)
    await route.continue_()


async def test_code_is_coloured_and_copied(profile: BrowserContext) -> None:
    await profile.grant_permissions(["clipboard-read", "clipboard-write"])
    async with open_site(reply_text("```python\ndef f():\n    return 1\n```")) as site:
        page = await opened(profile, site)
        await say(page, "Write code")
        await expect(page.locator(".code .hljs-keyword")).to_have_text(["def", "return"])
        await expect(page.locator(".code-head span")).to_have_text("python")
        await page.click(".copy-code")

        copied = await page.evaluate("() => navigator.clipboard.readText()")
        assert copied == "def f():\n    return 1\n"


async def test_right_to_left_text_is_aligned_to_the_right(profile: BrowserContext) -> None:
    async with open_site(reply_text("مرحبا بك\n\n- واحد")) as site:
        page = await opened(profile, site)
        await say(page, "שלום")
        await page.wait_for_selector(".reply[data-state=done]")

        direction = "element => getComputedStyle(element).direction"
        for part in (".prose p", ".prose ul", ".bubble p"):
            assert await page.locator(part).evaluate(direction) == "rtl"
        await page.fill("#text", "שלום")
        assert await page.locator("#text").evaluate(direction) == "rtl"


async def test_a_wide_table_scrolls_and_keeps_its_words_whole(profile: BrowserContext) -> None:
    table = "| " + " | ".join(["Donaudampfschifffahrt"] * 8) + " |\n" + "|--" * 8 + "|"
    async with open_site(reply_text(table)) as site:
        page = await opened(profile, site)
        await say(page, "A table")
        await page.wait_for_selector(".reply[data-state=done]")

        wide = "element => element.scrollWidth > element.clientWidth"
        assert await page.locator(".prose table").evaluate(wide)
        heights = await page.locator(".prose th").evaluate_all(
            "cells => cells.map(cell => cell.getClientRects()[0].height)"
        )
        assert max(heights) < 50


async def test_a_footnote_is_reached_without_leaving_the_conversation(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("A claim[^1].\n\n[^1]: Its source.")) as site:
        page = await opened(profile, site)
        await say(page, "Prove it")
        await page.wait_for_selector(".reply[data-state=done]")
        address = page.url
        await page.click(".note-ref")

        await expect(page.locator(".footnotes li")).to_be_focused()
        assert page.url == address


async def test_a_rate_limited_message_stays_in_the_box_with_a_countdown(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Hi"), chat_token="chat", messages_per_minute=1) as site:
        page = await profile.new_page()
        await page.goto(f"{site.url}/login")
        await page.fill("#token", "chat")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("body[data-ready]")
        await say(page, "One")
        await expect(page.locator(".reply[data-state=done]")).to_have_count(1)
        await say(page, "Two")

        await expect(page.locator("#status")).to_contain_text("Send again in")
        await expect(page.locator("#text")).to_have_value("Two")
        await expect(page.locator("#send")).to_be_disabled()
        await expect(page.locator(".bubble")).to_have_text(["One"])


async def test_enter_that_ends_a_composition_does_not_send(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await opened(profile, site)
        await page.fill("#text", "小愛")
        # Safari: isComposing is false already, keyCode is 229.
        await page.evaluate(
            """() => document.getElementById("text").dispatchEvent(new KeyboardEvent("keydown",
            { key: "Enter", keyCode: 229, bubbles: true, cancelable: true }))"""
        )

        await expect(page.locator("#text")).to_have_value("小愛")
        assert site.conversations.inbox.inbounds == []


async def test_enter_on_a_phone_inserts_a_new_line(browser: Browser) -> None:
    async with (
        open_site(reply_text("Yes")) as site,
        await browser.new_context(is_mobile=True, has_touch=True) as phone,
    ):
        page = await opened(phone, site)
        await page.locator("#text").press_sequentially("one")
        await page.keyboard.press("Enter")
        await page.locator("#text").press_sequentially("two")

        await expect(page.locator("#text")).to_have_value("one\ntwo")
        await page.click("#send")
        await page.wait_for_selector(".reply[data-state=done]")


async def test_pasted_text_that_comes_with_a_picture_of_it_is_kept(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Yes"), images=DOTS) as site:
        page = await opened(profile, site)
        pasted = await page.evaluate(PASTE_TEXT_AND_PICTURE, base64.b64encode(DOT).decode())

        # Not prevented: the browser then inserts the text.
        assert pasted
        await expect(page.locator("#pictures")).to_be_hidden()


async def test_a_conversation_deleted_in_one_tab_leaves_the_list_of_the_other(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Hello yourself")) as site:
        page = await opened(profile, site)
        await say(page, "Hello")
        await page.wait_for_selector(".reply[data-state=done]")
        other = await opened(profile, site)
        await expect(other.locator(".chat-row")).to_have_count(1)
        await delete_conversation(page)

        await expect(other.locator(".chat-row")).to_have_count(0)


async def test_a_picture_opens_in_full_size(profile: BrowserContext) -> None:
    async with open_site(reply_text("A dot!"), images=DOTS) as site:
        page = await opened(profile, site)
        await page.set_input_files(
            "#picker", {"name": "dot.png", "mimeType": "image/png", "buffer": DOT}
        )
        await say(page, "What is this?")
        await page.click(".thumbs button")
        await expect(page.locator("#large")).to_be_visible()
        await page.keyboard.press("Escape")

        await expect(page.locator("#large")).to_be_hidden()


async def test_more_pictures_than_the_limit_are_refused_before_sending(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Dots"), images=DOTS) as site:
        page = await opened(profile, site)
        await page.set_input_files(
            "#picker",
            [FilePayload(name=f"{n}.png", mimeType="image/png", buffer=DOT) for n in range(4)],
        )

        await expect(page.locator("#pictures img")).to_have_count(3)
        await expect(page.locator("#status")).to_contain_text("3 images per message")


async def test_a_used_login_link_still_opens_the_page_of_a_logged_in_operator(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await profile.new_page()
        link = site.platform.new_login_link()
        await page.goto(link)
        await expect(page).to_have_url(f"{site.url}/operator")
        await page.goto(link)

        await expect(page).to_have_url(f"{site.url}/operator")


async def test_an_unknown_cost_is_called_unknown(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes")) as site:
        unknown = attempt("openrouter", ts=NOW - 60)
        site.operator.ledger.replies = [reply("r1", NOW - 60, unknown)]
        page = await operators_page(profile, site)

        await expect(page.locator("[data-plot=cost] .none")).to_have_text(
            "Cost unknown for 1 attempt"
        )


async def test_text_of_models_and_people_never_runs_as_script(profile: BrowserContext) -> None:
    attack = (
        "<script>window.owned=1</script> <img src=x onerror=window.owned=1> "
        "[a](javascript:window.owned=1) ![b](https://evil.example/p.png) "
        "<a href='javascript:window.owned=1'>c</a>\n\n```x\"><script>window.owned=1</script>\n```"
    )
    async with open_site(reply_text(attack)) as site:
        page = await opened(profile, site)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await say(page, attack)
        await page.wait_for_selector(".reply[data-state=done]")
        await page.reload()
        await page.wait_for_selector(".reply[data-state=done]")

        assert await page.evaluate("() => window.owned") is None
        assert await page.locator(":is(.prose, .bubble) :is(script, img)").count() == 0
        assert all(url.startswith(site.url) for url in asked)
        assert "<script>" in await page.locator(".bubble").inner_text()


async def test_a_message_that_was_not_sent_can_be_sent_again(profile: BrowserContext) -> None:
    async with open_site(reply_text("Better late")) as site:
        page = await opened(profile, site)
        site.conversations.inbox.fails = True
        await say(page, "Hello")
        await expect(page.locator(".note.bad")).to_contain_text("Not sent")
        site.conversations.inbox.fails = False
        await page.click(".note.bad button")

        await expect(page.locator(".reply .prose")).to_have_text("Better late")
        await expect(page.locator(".user")).to_have_count(1)
        await expect(page.locator(".note.bad")).to_have_count(0)


async def test_enter_sends_and_shift_enter_makes_a_line(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await opened(profile, site)
        await page.keyboard.type("one")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("two")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".reply[data-state=done]")

        assert site.conversations.inbox.inbounds[0].text == "one\ntwo"


async def test_a_phone_shows_everything_without_sideways_scrolling(profile: BrowserContext) -> None:
    wide = "| a | b |\n|--|--|\n| " + "long " * 30 + "| x |\n\n```\n" + "code " * 60 + "\n```"
    async with open_site(reply_text(wide)) as site:
        page = await opened(profile, site)
        await page.set_viewport_size({"width": 360, "height": 640})
        await say(page, "https://example.org/" + "very" * 40)
        await page.wait_for_selector(".reply[data-state=done]")

        assert await page.evaluate("() => document.documentElement.scrollWidth") == 360
        await expect(page.locator("#side")).to_be_hidden()
        await page.click("#menu")
        await expect(page.locator("#new")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("#side")).to_be_hidden()


async def test_the_theme_follows_the_system_until_one_is_chosen(profile: BrowserContext) -> None:
    colour = "() => getComputedStyle(document.body).backgroundColor"
    async with open_site(reply_text("Yes")) as site:
        page = await opened(profile, site)
        light = await page.evaluate(colour)
        await page.emulate_media(color_scheme="dark")
        dark = await page.evaluate(colour)
        await page.click("#theme")

        assert light != dark
        assert await page.evaluate(colour) == light
        await page.reload()
        assert await page.evaluate(colour) == light


async def test_a_picture_is_pasted_shown_and_sent(profile: BrowserContext) -> None:
    taken: list[Upload] = []

    async def store(
        uploads: Sequence[Upload], _text: str
    ) -> tuple[tuple[ImageRef, ...], tuple[str, ...]]:
        taken.extend(uploads)
        return (ImageRef("a" * 64, "image/png", 1, 1, "dot.png"),), ()

    async def find(digest: str) -> ImagePart | None:
        return ImagePart(taken[0].data, "image/png", 1, 1, "dot.png", digest)

    async with open_site(reply_text("A dot!"), images=ImageActions(store, find)) as site:
        page = await opened(profile, site)
        await page.evaluate(PASTE, base64.b64encode(DOT).decode())
        await expect(page.locator("#pictures img")).to_have_count(1)
        await say(page, "What is this?")
        await page.wait_for_selector(".reply[data-state=done]")
        await page.reload()

        thumbnail = page.locator(".thumbs img")
        await expect(thumbnail).to_have_js_property("naturalWidth", 1)
        assert [upload.data for upload in taken] == [DOT]


async def test_a_lost_connection_is_shown_and_restored(profile: BrowserContext) -> None:
    async with open_site(reply_text("Back again")) as site:
        page = await opened(profile, site)
        await profile.set_offline(offline=True)
        await say(page, "Hello?")
        await expect(page.locator(".note.bad")).to_contain_text("cannot be reached")
        await profile.set_offline(offline=False)
        await page.click(".note.bad button")

        await expect(page.locator(".reply .prose")).to_have_text("Back again")


async def test_without_a_token_the_login_page_opens(profile: BrowserContext) -> None:
    async with open_site(reply_text("Welcome"), chat_token="open sesame") as site:
        page = await profile.new_page()
        await page.goto(site.url)
        await page.fill("#token", "wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator(".message")).to_have_text("Wrong token.")
        await page.fill("#token", "open sesame")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("body[data-ready]")
        await expect(page.locator("#operator")).to_be_hidden()
        await page.goto(f"{site.url}/operator")
        await expect(page).to_have_url(f"{site.url}/login?next=/operator")


async def operators_page(profile: BrowserContext, site: Site) -> Page:
    page = await profile.new_page()
    await page.goto(site.platform.new_login_link())
    await page.wait_for_selector(".plot")
    return page


async def test_the_operator_sees_a_failing_provider_within_a_second(
    profile: BrowserContext,
) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await operators_page(profile, site)
        await expect(page.locator("#candidates li")).to_have_attribute("data-state", "usable")
        site.operator.candidates[0] = replace(
            LOCAL, state="cooldown", reason="silent", until=NOW + 61
        )
        site.operator.feed.attempt_ended(
            failed("local/koboldcpp", NOW, ErrorClass.FIRST_TOKEN_TIMEOUT)
        )

        cooling = page.locator("#candidates li[data-state=cooldown] .how")
        await expect(cooling).to_contain_text("silent · cooldown ends in")
        await expect(page.locator("#live tbody .what")).to_have_text("silent")
        await page.get_by_role("button", name="End cooldown", exact=True).click()
        await expect(page.locator("#status")).to_contain_text("Cooldowns ended")
        assert site.operator.resets == ["local"]


async def test_plots_are_drawn_with_data_and_without(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await operators_page(profile, site)
        await expect(page.locator(".plot .none")).to_have_count(4)
        first = failed("openrouter", NOW - 60, ErrorClass.RATE_LIMITED)
        second = attempt("local/koboldcpp", ts=NOW - 59, cost_usd=0.5, first_output_ms=300)
        site.operator.ledger.replies = [reply("r1", NOW - 60, first, second)]
        await page.click("[data-span=day]")

        await expect(page.locator(".plot .none")).to_have_count(0)
        await expect(page.locator("[data-plot=tokens] output")).to_have_text("469 in total")
        await expect(page.locator("[data-plot=cost] output")).to_have_text("$0.50 in total")
        await expect(page.locator("[data-plot=failures] .bar")).not_to_have_count(0)
        await expect(page.locator("[data-plot=latency] .dot")).to_have_count(1)


async def test_a_reply_id_shows_its_trace_as_a_timeline(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes")) as site:
        first = failed("openrouter", NOW, ErrorClass.RATE_LIMITED)
        second = attempt("local/koboldcpp", ts=NOW + 0.04)
        site.operator.ledger.replies = [reply("r1", NOW, first, second)]
        page = await operators_page(profile, site)
        await page.fill("#reply-id", "r1")
        await page.keyboard.press("Enter")

        await expect(page.locator(".try .name")).to_have_text(
            ["rate-limited: openrouter", "answered: local/koboldcpp"]
        )
        await page.fill("#reply-id", "unknown")
        await page.keyboard.press("Enter")
        await expect(page.locator("#runs .empty")).to_contain_text("No reply with that id")


async def test_axes_of_counts_have_whole_numbers(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes")) as site:
        first = failed("openrouter", NOW - 60, ErrorClass.RATE_LIMITED)
        site.operator.ledger.replies = [reply("r1", NOW - 60, first)]
        page = await operators_page(profile, site)

        labels = page.locator("[data-plot=failures] text[text-anchor=end]")
        await expect(labels.first).to_have_text("1")
        await expect(labels.nth(1)).to_have_text("2")


async def test_the_operator_logs_out(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await operators_page(profile, site)
        await page.click("text=Log out")
        await expect(page).to_have_url(f"{site.url}/login")
        await page.goto(f"{site.url}/operator")

        await expect(page).to_have_url(f"{site.url}/login?next=/operator")


async def test_on_a_phone_the_operators_header_is_low(profile: BrowserContext) -> None:
    async with open_site(reply_text("Yes")) as site:
        page = await operators_page(profile, site)
        await page.set_viewport_size({"width": 390, "height": 844})
        header = await page.locator(".top").bounding_box()
        await expect(page.locator("#reload")).to_be_hidden()
        await page.click("#menu")
        await expect(page.locator("#reload")).to_be_visible()

        assert header is not None
        assert header["height"] <= 64
        assert await page.evaluate("() => document.documentElement.scrollWidth") == 390


async def test_a_message_sent_before_the_page_has_loaded_stays_in_the_box(
    profile: BrowserContext,
) -> None:
    async with open_site(ScriptedReply((("local", Outcome.OK, None, "Good evening."),))) as site:
        page, listed = await profile.new_page(), asyncio.Event()

        async def wait(route: Route) -> None:
            await listed.wait()
            await route.continue_()

        await page.route("**/api/chats", wait)
        await page.goto(site.url)
        await say(page, "hello")
        listed.set()
        await page.wait_for_selector("body[data-ready]")

        await expect(page.locator("#text")).to_have_value("hello")
        await page.keyboard.press("Enter")
        await expect(page.locator("#log")).to_contain_text("Good evening.")
