"""Keys of the gateway that are made, limited and revoked on the operator's page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import BrowserContext, expect

from understudy.app.run import Running, running
from understudy.config.load import load_config
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]
BEARER = {"Authorization": "Bearer operator-token"}
ASK = {"messages": [{"role": "user", "content": "hello"}]}


@dataclass(slots=True)
class Program:
    running: Running
    http: aiohttp.ClientSession

    async def call(self, path: str, **body: object) -> tuple[int, dict[str, object]]:
        assert self.running.web is not None
        url = f"{self.running.web.url}/api/operator/keys{path}"
        async with self.http.post(url, json=body, headers=BEARER) as answer:
            return answer.status, await answer.json()

    async def keys(self) -> list[dict[str, object]]:
        assert self.running.web is not None
        url = f"{self.running.web.url}/api/operator/keys"
        async with self.http.get(url, headers=BEARER) as answer:
            found: list[dict[str, object]] = (await answer.json())["keys"]
            return found

    async def ask(self, key: object = None) -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"{self.running.gateway}/chat/completions"
        async with self.http.post(url, json=ASK, headers=headers) as answer:
            return answer.status

    def log(self) -> str:
        return "\n".join(self.running.bot.logs.tail.since(0))


@asynccontextmanager
async def program(folder: Path, more: str = "") -> AsyncIterator[Program]:
    async with RehearsalServer("say:well") as server:
        file = folder / "config.yaml"
        file.write_text(
            f"model: {{provider_order: [a], servers: {{a: {{base_url: '{server.base_url}'}}}}}}\n"
            "web: {port: 0, token: operator-token}\n"
            f"gateway: {{enabled: true, port: 0{more}}}\n"
            f"storage: {{url: 'sqlite:///{folder}/understudy.db'}}\n"
        )
        config = load_config(file, {})
        async with (
            running(config, Logs(config.settings.logging, StringIO())) as bot,
            aiohttp.ClientSession() as http,
        ):
            yield Program(bot, http)


async def test_a_made_key_works_at_once_and_is_stored_only_as_its_digest(tmp_path: Path) -> None:
    async with program(tmp_path) as bot:
        open_before = await bot.ask()
        status, made = await bot.call("", name="notes", limits={})
        key = str(made["key"])
        answers = [await bot.ask(key), await bot.ask(), await bot.ask("sk-understudy-wrong")]
        (shown,) = await bot.keys()
        log = bot.log()
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("understudy.db*"))

    assert (open_before, status, answers) == (200, 200, [200, 401, 401])
    assert key not in str(shown)
    assert key not in log
    assert '"action":"key_made","target":"notes"' in log
    assert key.encode() not in stored


async def test_a_revoked_key_is_refused_and_does_not_open_the_gateway(tmp_path: Path) -> None:
    async with program(tmp_path) as bot:
        _, made = await bot.call("", name="notes", limits={})
        await bot.ask(made["key"])
        status, _ = await bot.call("/revoke", name="notes")
        answers = [await bot.ask(made["key"]), await bot.ask()]
        again, _ = await bot.call("/revoke", name="notes")
        _, second = await bot.call("", name="notes", limits={})
        renewed = await bot.ask(second["key"])

    assert (status, answers, again, renewed) == (200, [401, 401], 404, 200)


async def test_a_limit_binds_from_the_next_request_on(tmp_path: Path) -> None:
    async with program(tmp_path) as bot:
        _, made = await bot.call("", name="notes", limits={})
        first = await bot.ask(made["key"])
        await bot.call("/limit", name="notes", limits={"requests_per_day": 1})
        second = await bot.ask(made["key"])
        await bot.call("/limit", name="notes", limits={"requests_per_day": None})
        third = await bot.ask(made["key"])

    assert (first, second, third) == (200, 429, 200)


async def test_keys_survive_a_restart_with_what_they_used(tmp_path: Path) -> None:
    async with program(tmp_path) as bot:
        _, made = await bot.call("", name="notes", limits={"tokens_per_day": 10_000})
        await bot.ask(made["key"])
    async with program(tmp_path) as bot:
        (shown,) = await bot.keys()
        status = await bot.ask(made["key"])

    assert status == 200
    assert (shown["name"], shown["today"]["replies"]) == ("notes", 1)  # type: ignore[index]
    assert shown["limits"]["tokens_per_day"] == 10_000  # type: ignore[index]


async def test_keys_of_the_configuration_are_shown_and_not_changed(tmp_path: Path) -> None:
    async with program(tmp_path, ", keys: [{name: file, key: in-the-file}]") as bot:
        (shown,) = await bot.keys()
        taken, _ = await bot.call("", name="file", limits={})
        revoked, _ = await bot.call("/revoke", name="file")
        status = await bot.ask("in-the-file")

    assert (shown["name"], shown["in_configuration"]) == ("file", True)
    assert "in-the-file" not in str(shown)
    assert (taken, revoked, status) == (409, 404, 200)


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "limits": {}},
        {"name": "../x", "limits": {}},
        {"name": "x"},
        {"name": "x", "limits": {"requests_per_day": 0}},
        {"name": "x", "limits": {"requests_per_day": True}},
        {"name": "x", "limits": {"requests_per_week": 1}},
    ],
)
async def test_what_is_no_key_is_refused(tmp_path: Path, body: dict[str, object]) -> None:
    async with program(tmp_path) as bot:
        status, _ = await bot.call("", **body)
        shown = await bot.keys()

    assert status in (400, 409)
    assert shown == []


async def test_a_key_is_made_limited_and_revoked_on_the_page(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with program(tmp_path) as bot:
        assert bot.running.web is not None
        page = await profile.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        await page.goto(bot.running.web.login)
        await page.fill("#key-form [name=name]", "my notes")
        await page.fill("#key-form [name=requests_per_day]", "5")
        await page.get_by_role("button", name="Make key").click()
        key = await page.locator("#new-key code").inner_text()
        item = page.locator("#keys li")
        await expect(item).to_contain_text("5 requests/day · today: nothing")
        assert await bot.ask(key) == 200

        await page.get_by_role("button", name="Change the limits of my notes").click()
        await item.locator("[name=requests_per_day]").fill("1")
        await page.get_by_role("button", name="Save limits").click()
        await expect(item).to_contain_text("1 requests/day")
        assert await bot.ask(key) == 429

        await page.get_by_role("button", name="Revoke my notes").click()
        await expect(item).to_contain_text("revoked")
        assert await bot.ask(key) == 401
        await page.reload()
        await expect(item).to_contain_text("my notes")
        assert key not in await page.content()
