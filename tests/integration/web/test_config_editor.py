"""Editing the configuration of a running bot on the operator's page."""

import json
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import BrowserContext, Page, expect

from understudy.app.run import Running, running
from understudy.config.load import load_config
from understudy.observability.logs import Logs
from understudy.storage.stores import open_storage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

TEXT = """\
# my servers
model:
  provider_order: [gpu]
  servers:
    gpu: {{base_url: "http://127.0.0.1:9", api_key: very-secret-key}}
web: {{port: 0, token: operator-token}}
storage: {{url: "sqlite:///{folder}/understudy.db"}}
persona: {{name: Rosa, folder: "{folder}/personas"}}
"""
BEARER = {"Authorization": "Bearer operator-token"}


@dataclass(slots=True)
class Bot:
    folder: Path
    running: Running
    http: aiohttp.ClientSession

    @property
    def file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def url(self) -> str:
        assert self.running.web is not None
        return f"{self.running.web.url}/api/operator/config"

    async def read(self) -> dict[str, str]:
        async with self.http.get(self.url) as answer:
            assert answer.status == 200
            found: dict[str, str] = await answer.json()
            return found

    async def save(self, text: str, digest: str) -> tuple[int, dict[str, object]]:
        async with self.http.post(self.url, json={"text": text, "digest": digest}) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def open_bot(folder: Path) -> AsyncIterator[Bot]:
    file = folder / "config.yaml"
    file.write_text(TEXT.format(folder=folder))
    config = load_config(file, {})
    async with (
        running(config, Logs(config.settings.logging, StringIO())) as bot,
        aiohttp.ClientSession(headers=BEARER) as http,
    ):
        yield Bot(folder, bot, http)


async def test_secrets_are_masked_in_the_text_and_survive_a_save(tmp_path: Path) -> None:
    async with open_bot(tmp_path) as bot:
        found = await bot.read()
        edited = found["text"].replace("Rosa", "Emil")
        status, answer = await bot.save(edited, found["digest"])
        name = bot.running.bot.settings().persona.name
        kept = list(tmp_path.glob("config.yaml.old-*"))

    assert "very-secret-key" not in found["text"]
    assert "operator-token" not in found["text"]
    assert (status, found["locked"]) == (200, "")
    assert "Configuration reloaded" in str(answer["said"])
    assert name == "Emil"
    assert bot.file.read_text() == TEXT.format(folder=tmp_path).replace("Rosa", "Emil")
    assert [file.read_text() for file in kept] == [TEXT.format(folder=tmp_path)]
    assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600


async def test_a_save_is_in_the_log_without_any_value(tmp_path: Path) -> None:
    async with open_bot(tmp_path) as bot:
        found = await bot.read()
        await bot.save(found["text"].replace("Rosa", "Emil"), found["digest"])
        lines = bot.running.bot.logs.tail.since(0)

    (action,) = (json.loads(line) for line in lines if "operator.action" in line)
    assert (action["action"], action["peer"]) == ("config_saved", "127.0.0.1")
    assert "very-secret-key" not in "".join(lines)


async def test_mistakes_are_reported_at_their_lines_and_nothing_is_saved(tmp_path: Path) -> None:
    async with open_bot(tmp_path) as bot:
        found = await bot.read()
        edited = found["text"].replace("provider_order: [gpu]", "provider_ordr: [gpu]\n  x: 1")
        status, answer = await bot.save(edited, found["digest"])

    assert status == 422
    assert [(m["line"], m["text"].partition(":")[0]) for m in answer["mistakes"]] == [  # type: ignore[attr-defined]
        (3, "model.provider_ordr"),
        (4, "model.x"),
    ]
    assert bot.file.read_text() == TEXT.format(folder=tmp_path)
    assert list(tmp_path.glob("config.yaml.old-*")) == []


async def test_a_text_whose_persona_is_missing_is_put_back(tmp_path: Path) -> None:
    async with open_bot(tmp_path) as bot:
        found = await bot.read()
        edited = found["text"].replace("name: Rosa", "name: Rosa, default: ghost")
        status, answer = await bot.save(edited, found["digest"])

    assert status == 409
    assert "ghost" in str(answer["error"])
    assert bot.file.read_text() == TEXT.format(folder=tmp_path)


async def test_a_file_that_was_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    async with open_bot(tmp_path) as bot:
        found = await bot.read()
        other = TEXT.format(folder=tmp_path).replace("my servers", "edited by hand")
        bot.file.write_text(other)
        status, answer = await bot.save(found["text"].replace("Rosa", "Emil"), found["digest"])

    assert status == 409
    assert "changed" in str(answer["error"])
    assert bot.file.read_text() == other


async def test_a_read_only_file_cannot_be_saved(tmp_path: Path) -> None:
    async with open_bot(tmp_path) as bot:
        bot.file.chmod(0o444)
        found = await bot.read()
        status, _ = await bot.save(found["text"], found["digest"])

    assert "read-only" in found["locked"]
    assert status == 409


async def test_with_another_process_on_the_database_the_file_is_only_shown(
    tmp_path: Path,
) -> None:
    async with open_bot(tmp_path) as bot, open_storage(tmp_path / "understudy.db", persist=True):
        found = await bot.read()
        status, _ = await bot.save(found["text"].replace("Rosa", "Emil"), found["digest"])

    assert "Another process" in found["locked"]
    assert "Rosa" in found["text"]
    assert status == 409
    assert bot.file.read_text() == TEXT.format(folder=tmp_path)


async def test_only_the_operator_reads_or_saves_it_and_no_other_site(tmp_path: Path) -> None:
    foreign = {**BEARER, "Origin": "https://evil.example"}
    async with open_bot(tmp_path) as bot, aiohttp.ClientSession() as stranger:
        async with stranger.get(bot.url) as answer:
            read = answer.status
        async with stranger.post(bot.url, json={}) as answer:
            saved = answer.status
        async with stranger.post(bot.url, json={}, headers=foreign) as answer:
            cross = answer.status

    assert (read, saved, cross) == (401, 401, 403)


async def test_a_mistake_is_shown_and_its_line_selected(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with open_bot(tmp_path) as bot:
        page = await _open_editor(profile, bot)
        box, save = page.locator("#config-text"), page.locator("#config-save")
        text = await box.input_value()
        await expect(save).to_be_disabled()
        await box.fill(text.replace("persona: {name", "persona: {nam"))
        await save.click()
        await page.get_by_role("button", name="Line 8: persona.nam").click()
        selected = await page.evaluate(
            "() => { const box = document.activeElement;"
            " return box.value.slice(box.selectionStart, box.selectionEnd); }"
        )
        assert selected.startswith("persona: {nam: Rosa")

        await box.fill(text.replace("Rosa", "Emil"))
        await save.click()
        await expect(page.locator("#config-note")).to_contain_text("Configuration reloaded")
        await expect(page.locator("#config-mistakes li")).to_have_count(0)
        await expect(save).to_be_disabled()

    assert "Emil" in bot.file.read_text()
    assert "very-secret-key" in bot.file.read_text()


async def _open_editor(profile: BrowserContext, bot: Bot) -> Page:
    assert bot.running.web is not None
    page = await profile.new_page()
    await page.goto(bot.running.web.login)
    await page.locator("#config > summary").click()
    await expect(page.locator("#config-text")).to_have_value(_HAS_SERVERS)
    return page


_HAS_SERVERS = re.compile("my servers")
