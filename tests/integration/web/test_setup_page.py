"""`run` without a usable server: the page `/setup`, its guards, and the way to a first reply."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, expect

from bot_process import running_bot
from command import plain_environment
from understudy.app.setup.site import SetupSite, SetupSources
from understudy.config.load import load_config
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer
from waiting import LIMIT_S

if sys.platform != "win32":
    from pseudo_terminal import converse

TOKEN = "token-of-the-operator"
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def open_setup(folder: Path, more: str = "") -> AsyncIterator[SetupSite]:
    file = folder / "config.yaml"
    file.write_text(
        f"web: {{port: 0, token: {TOKEN}, chat_token: token-of-the-chat}}\n"
        f"storage: {{url: 'sqlite:///{folder}/understudy.db'}}\n{more}"
    )
    config = load_config(file, {})
    site = SetupSite(config, Logs(config.settings.logging, sys.stderr), SetupSources(ports=(9,)))
    async with asyncio.timeout(LIMIT_S), site.serve():
        yield site


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_it_lives_but_is_not_ready(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with (
        open_setup(tmp_path) as site,
        http.get(f"{site.url}/healthz") as health,
        http.get(f"{site.url}/readyz") as ready,
    ):
        assert (health.status, ready.status) == (200, 503)


@pytest.mark.parametrize(
    ("headers", "page", "api"),
    [
        ({}, 303, 401),
        ({"Authorization": "Bearer token-of-the-chat"}, 303, 401),
        ({"Authorization": "Bearer wrong"}, 303, 401),
        (OPERATOR, 200, 200),
        ({**OPERATOR, "X-Forwarded-For": "203.0.113.5"}, 403, 403),
    ],
    ids=["nothing", "chat token", "wrong token", "operator", "operator from elsewhere"],
)
async def test_only_the_operator_on_this_machine_gets_in(
    headers: dict[str, str], page: int, api: int, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with open_setup(tmp_path) as site:
        found = []
        for path in ("/setup", "/api/setup"):
            async with http.get(site.url + path, headers=headers, allow_redirects=False) as answer:
                found.append(answer.status)

    assert found == [page, api]


async def test_a_foreign_page_cannot_save(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    before = {"Origin": "http://evil.example", **OPERATOR}
    async with (
        open_setup(tmp_path) as site,
        http.post(f"{site.url}/api/setup", json={"name": "Eve"}, headers=before) as answer,
    ):
        assert answer.status == 403
    assert "Eve" not in (tmp_path / "config.yaml").read_text()


async def test_saving_writes_the_files_and_ends_with_a_reply(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with RehearsalServer("say:Hello, I am Ann.") as server, open_setup(tmp_path) as site:
        form = {"name": "Ann", "servers": [server.base_url.removesuffix("/v1")]}
        async with http.post(f"{site.url}/api/setup", json=form, headers=OPERATOR) as answer:
            saved = await answer.json()
        config = await site.until_usable()

    assert (saved["usable"], saved["reply"]) == (True, "Ann: Hello, I am Ann.")
    assert "answered: openai" in saved["route"]
    assert config.settings.persona.name == "Ann"


async def test_a_file_saved_in_an_editor_ends_the_setup_too(tmp_path: Path) -> None:
    async with open_setup(tmp_path) as site:
        waiting = asyncio.create_task(site.until_usable())
        (tmp_path / ".env").write_text("OPENROUTER_API_KEY=sk-or-v1-test\n")
        config = await waiting

    assert config.settings.model.openrouter.api_key is not None


async def test_a_server_that_does_not_answer_is_named_and_nothing_is_written(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with open_setup(tmp_path) as site:
        before = (tmp_path / "config.yaml").read_text()
        form = {"name": "Ann", "servers": ["http://127.0.0.1:9"]}
        async with http.post(f"{site.url}/api/setup", json=form, headers=OPERATOR) as answer:
            said = await answer.json()

    assert "No model server answers at http://127.0.0.1:9" in said["error"]
    assert (tmp_path / "config.yaml").read_text() == before


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
async def test_a_person_sets_the_bot_up_in_the_browser_and_chats(
    tmp_path: Path, profile: BrowserContext
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "config.yaml").write_text(f"# mine\nweb: {{port: {port}, token: {TOKEN}}}\n")
    async with RehearsalServer("say:Hello, I am Ann.") as server:
        with running_bot(tmp_path) as bot:
            url = await asyncio.to_thread(bot.until, r"Set one up at:\s+(\S+)")
            page = await profile.new_page()
            await page.goto(url)
            await page.get_by_label("Token").fill(TOKEN)
            await page.get_by_role("button", name="Log in").click()
            await page.get_by_label("Address of another one").fill(
                server.base_url.removesuffix("/v1")
            )
            await page.get_by_role("button", name="Add").click()
            await expect(page.locator("#servers")).to_contain_text("openai at")
            await page.get_by_label("Name", exact=True).fill("Ann")
            await page.get_by_role("button", name="Save and start").click()
            await page.get_by_role("link", name="Go to the chat").click()
            await page.wait_for_url("**/")
            await page.wait_for_load_state()
            await page.get_by_role("textbox", name="Message").fill("hello")
            await page.get_by_role("button", name="Send").click()
            await expect(page.get_by_text("Hello, I am Ann.").first).to_be_visible()
            assert await asyncio.to_thread(lambda: bot.page)
            await page.close()
    assert (tmp_path / "config.yaml").read_text().startswith("# mine\n")


async def test_at_a_terminal_the_run_offers_the_setup_and_then_starts(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("web: {port: 0}\n")
    async with RehearsalServer("say:hi") as server:
        shown, code = await asyncio.to_thread(
            converse,
            ("run",),
            (
                ("Set one up now?", ""),
                ("Address of a model server elsewhere", server.base_url),
                ("Address of a model server elsewhere", ""),
                ("OpenRouter key (Enter: none)", ""),
                ("Fetch it", ""),
                ("Discord token (Enter: none)", ""),
                ("Name of the bot", ""),
                ("Write it?", ""),
                ("Operator's page", "\x03"),
            ),
            folder=tmp_path,
            env=plain_environment(),
        )

    # Ctrl-C right at the start is not yet the graceful stop.
    assert code in (0, 130), shown
    assert "Chat page:" in shown


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("width", [1100, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_form_has_no_serious_accessibility_violations(
    tmp_path: Path, browser: Browser, width: int, theme: Literal["light", "dark"]
) -> None:
    async with (
        RehearsalServer() as server,
        open_setup(tmp_path) as site,
        await browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=theme
        ) as context,
    ):
        page = await context.new_page()
        await page.goto(site.login)
        await page.wait_for_url("**/setup")
        address = server.base_url.removeprefix("http://").removesuffix("/v1") + "/v1/"
        await page.get_by_label("Address of another one").fill(address)
        await page.get_by_role("button", name="Add").click()
        await expect(page.locator("#servers")).to_contain_text("openai at")
        found = (await Axe().run(page)).response["violations"]
        overflow = await page.evaluate("document.documentElement.scrollWidth > innerWidth")

    serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
    assert (serious, overflow) == ([], False)
