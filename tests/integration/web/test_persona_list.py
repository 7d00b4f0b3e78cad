"""Personas on the operator's page of a running bot: list, preview, default, delete."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import BrowserContext, expect

from understudy.app.run import Running, running
from understudy.config.load import load_config
from understudy.observability.logs import Logs

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]
BEARER = {"Authorization": "Bearer operator-token"}


@asynccontextmanager
async def program(folder: Path) -> AsyncIterator[Running]:
    (folder / "personas").mkdir()
    (folder / "personas/pirate.md").write_text("Talk like a pirate.")
    (folder / "personas/cook.md").write_text("Talk like a cook.")
    file = folder / "config.yaml"
    file.write_text(
        "model: {provider_order: [a], servers: {a: {base_url: 'http://127.0.0.1:9'}}}\n"
        "web: {port: 0, token: operator-token}\n"
        f"storage: {{url: 'sqlite:///{folder}/understudy.db'}}\n"
        f"persona:\n  folder: '{folder}/personas'  # mine\n"
    )
    config = load_config(file, {})
    async with running(config, Logs(config.settings.logging, StringIO())) as bot:
        yield bot


async def test_a_persona_is_previewed_made_the_default_and_deleted(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with program(tmp_path) as bot:
        assert bot.web is not None
        page = await profile.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        await page.goto(bot.web.login)
        rows = page.locator("#persona-list li")
        await expect(rows).to_have_count(2)
        await page.get_by_role("button", name="Preview pirate").click()
        await expect(page.locator("#lore-out")).to_contain_text("Talk like a pirate.")

        await page.get_by_role("button", name="Make pirate the default").click()
        await expect(page.locator("[data-persona=pirate] small")).to_contain_text("default")
        assert bot.bot.settings().persona.default == "pirate"
        assert "default: pirate" in (tmp_path / "config.yaml").read_text()
        assert "# mine" in (tmp_path / "config.yaml").read_text()
        await expect(page.get_by_role("button", name="Delete pirate")).to_have_count(0)

        await page.get_by_role("button", name="Delete cook").click()
        await expect(rows).to_have_count(1)
        await expect(page.locator("#card-note")).to_contain_text("cook is deleted")
        await page.get_by_role("button", name="pirate is not the default any more").click()
        await expect(page.get_by_role("button", name="Make pirate the default")).to_be_visible()

    assert (tmp_path / "personas/.deleted/cook.md").read_text() == "Talk like a cook."
    assert bot.bot.settings().persona.default is None


async def test_a_persona_that_the_configuration_names_is_not_deleted(tmp_path: Path) -> None:
    async with program(tmp_path) as bot, aiohttp.ClientSession(headers=BEARER) as http:
        assert bot.web is not None
        base = f"{bot.web.url}/api/operator/personas"

        async def post(path: str, key: str | None) -> int:
            async with http.post(f"{base}/{path}", json={"persona": key}) as answer:
                return answer.status

        statuses = [
            await post("default", "cook"),
            await post("delete", "cook"),
            await post("delete", "ghost"),
            await post("delete", "../config"),
            await post("default", "ghost"),
            await post("preview", "ghost"),
        ]
        (tmp_path / "personas/bad.json").write_text("{")
        await bot.bot.reload_personas()
        async with http.get(base) as answer:
            warnings = (await answer.json())["warnings"]

    assert statuses == [200, 409, 404, 404, 404, 404]
    assert (tmp_path / "personas/cook.md").exists()
    assert "bad.json" in warnings[0]
