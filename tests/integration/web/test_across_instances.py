"""A page of one instance shows the replies that another one makes."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import StringIO
from pathlib import Path

import aiohttp
import pytest

from postgres_server import KINDS, database_location
from understudy.app.bot import answering, open_bot
from understudy.app.web import web_page
from understudy.config.load import load_config
from understudy.config.settings import Logging
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer
from web_setup import Events

CONFIG = """\
model:
  provider_order: [a]
  servers:
    a: {{engine: openai, base_url: "{model}"}}
web: {{port: 0}}
storage: {{url: "{url}"}}
"""
CHAT = "conversation-1"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_location(request.param, tmp_path) as location:
        yield location if isinstance(location, str) else f"sqlite:///{location}"


@asynccontextmanager
async def instance(folder: Path) -> AsyncGenerator[str]:
    config = load_config(folder / "config.yaml", {})
    logs = Logs(Logging(), StringIO())
    async with (
        open_bot(config, logs, shared=True) as bot,
        web_page(bot, folder / "web-token") as page,
        answering(bot, grace_s=0),
    ):
        yield page.url


async def until_done(events: Events) -> tuple[list[str], str]:
    """The states of the reply's text that a page showed, and the final text."""
    seen: list[str] = []
    while True:
        name, data = await events.next()
        entries = data["entries"] if name == "conversation" else [data]
        assert isinstance(entries, list)
        for entry in entries:
            if entry.get("kind") != "reply":
                continue
            if entry.get("state") == "writing":
                seen.append("".join(entry.get("blocks", [])))
            if entry.get("state") == "done":
                return seen, str(entry["text"])


async def test_a_page_shows_the_growing_and_the_final_text_of_another_instance(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(RehearsalServer("slow:0.5"))
        (tmp_path / "config.yaml").write_text(CONFIG.format(model=model.base_url, url=url))
        one = await stack.enter_async_context(instance(tmp_path))
        other = await stack.enter_async_context(instance(tmp_path))
        jar = aiohttp.CookieJar(unsafe=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        await (await http.get(one)).read()
        body = {"id": "message-1", "text": "hello"}

        watching = await stack.enter_async_context(http.get(f"{other}/api/chats/{CHAT}/events"))
        (await http.post(f"{one}/api/chats/{CHAT}/messages", json=body)).raise_for_status()
        growing, final = await until_done(Events(watching))

    assert len(growing) >= 2
    assert len(final) > 10
