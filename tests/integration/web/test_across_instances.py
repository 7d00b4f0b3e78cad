"""A page of one instance shows the replies that another one makes."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
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
from waiting import LIMIT_S
from web_setup import Events

CONFIG = """\
model:
  provider_order: [a]
  servers:
    a: {{engine: openai, base_url: "{model}"}}
web: {{port: 0, choose_order: true, chat_token: "chat"}}
storage: {{url: "{url}"}}
"""
CHAT = "conversation-1"
TOKEN = {"Authorization": "Bearer chat"}


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


@dataclass(frozen=True, slots=True)
class Two:
    """Two instances, and a browser that may use both."""

    one: str
    other: str
    http: aiohttp.ClientSession
    stack: AsyncExitStack

    async def watch(self, instance: str) -> Events:
        answer = await self.stack.enter_async_context(
            self.http.get(f"{instance}/api/chats/{CHAT}/events")
        )
        return Events(answer)

    async def call(self, url: str, body: Mapping[str, object]) -> None:
        (await self.http.post(f"{url}", json=body)).raise_for_status()

    async def ask_from(self, address: str, instance: str) -> str:
        """How the reply to a new browser at this address, behind a proxy, ended."""
        jar, headers = aiohttp.CookieJar(unsafe=True), {**TOKEN, "X-Forwarded-For": address}
        async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as http:
            await (await http.get(instance)).read()
            base = f"{instance}/api/chats/{CHAT}"
            async with http.get(f"{base}/events") as events:
                body = {"id": "message-1", "text": "hello"}
                (await http.post(f"{base}/messages", json=body)).raise_for_status()
                while True:
                    entry = await entry_with(Events(events), kind="reply")
                    if entry["state"] != "writing":
                        return str(entry["state"])

    async def send(self, instance: str, text: str = "hello") -> None:
        await self.call(f"{instance}/api/chats/{CHAT}/messages", {"id": "message-1", "text": text})


@asynccontextmanager
async def two_instances(
    url: str, folder: Path, behaviour: str, *, more: str = ""
) -> AsyncGenerator[Two]:
    async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
        model = await stack.enter_async_context(RehearsalServer(behaviour))
        (folder / "config.yaml").write_text(CONFIG.format(model=model.base_url, url=url) + more)
        one = await stack.enter_async_context(instance(folder))
        other = await stack.enter_async_context(instance(folder))
        jar = aiohttp.CookieJar(unsafe=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar, headers=TOKEN))
        await (await http.get(one)).read()
        yield Two(one, other, http, stack)


async def entry_with(events: Events, **members: str) -> Mapping[str, object]:
    """The first entry with these members that the page gets."""
    while True:
        name, data = await events.next()
        entries = data["entries"] if name == "conversation" else [data]
        assert isinstance(entries, list)
        for entry in entries:
            if members.items() <= entry.items():
                return dict(entry)


async def test_a_page_shows_the_growing_and_the_final_text_of_another_instance(
    url: str, tmp_path: Path
) -> None:
    async with two_instances(url, tmp_path, "slow:1.5") as both:
        watching = await both.watch(both.other)
        await both.send(both.one)
        growing, final = await until_done(watching)

    assert len(growing) >= 2
    assert len(final) > 10


async def test_a_message_shows_on_the_page_of_another_instance_before_its_reply(
    url: str, tmp_path: Path
) -> None:
    async with two_instances(url, tmp_path, "silent") as both:
        watching = await both.watch(both.other)
        await both.send(both.one)

        entry = await entry_with(watching, kind="user", text="hello")

    assert entry["id"] == f"{CHAT}.message-1"


async def test_stop_works_at_an_instance_that_does_not_write_the_reply(
    url: str, tmp_path: Path
) -> None:
    async with two_instances(url, tmp_path, "slow:3") as both:
        watching = await both.watch(both.other)
        await both.send(both.one)
        reply = await entry_with(watching, kind="reply", state="writing")
        await both.call(f"{both.other}/api/chats/{CHAT}/stop", {"reply": reply["id"]})

        stopped = await entry_with(await both.watch(both.one), id=str(reply["id"]), state="stopped")

    assert stopped["unfinished"]


async def test_a_browser_cannot_stop_the_reply_of_another_browser(url: str, tmp_path: Path) -> None:
    async with two_instances(url, tmp_path, "slow:0.2") as both, AsyncExitStack() as stack:
        watching = await both.watch(both.other)
        await both.send(both.one)
        reply = await entry_with(watching, kind="reply", state="writing")
        jar = aiohttp.CookieJar(unsafe=True)
        stranger = await stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=jar, headers=TOKEN)
        )
        await (await stranger.get(both.other)).read()
        for each in (both.one, both.other):
            stop = {"reply": reply["id"]}
            (await stranger.post(f"{each}/api/chats/{CHAT}/stop", json=stop)).raise_for_status()

        ended = await entry_with(watching, id=str(reply["id"]), state="done")

    assert ended["state"] == "done"


async def test_a_conversation_deleted_at_one_instance_disappears_at_the_other(
    url: str, tmp_path: Path
) -> None:
    async with two_instances(url, tmp_path, "say:good day") as both:
        watching = await both.watch(both.other)
        await both.send(both.one)
        await until_done(watching)

        (await both.http.delete(f"{both.one}/api/chats/{CHAT}")).raise_for_status()
        while (await watching.next()) != ("conversation", {"entries": []}):
            pass


async def test_a_new_name_of_a_conversation_reaches_the_page_of_another_instance(
    url: str, tmp_path: Path
) -> None:
    async with two_instances(url, tmp_path, "say:good day") as both:
        watching = await both.watch(both.other)
        await both.send(both.one)
        await until_done(watching)

        await both.call(f"{both.one}/api/chats/{CHAT}/title", {"title": "Greetings"})
        while (await watching.next())[0] != "title":
            pass


async def test_a_server_chosen_at_one_instance_counts_at_the_other_at_once(
    url: str, tmp_path: Path
) -> None:
    async with two_instances(url, tmp_path, "say:good day") as both:
        await both.call(f"{both.one}/api/chats/{CHAT}/server", {"server": "a"})

        async with both.http.get(f"{both.other}/api/chats/{CHAT}/server") as answer:
            found = await answer.json()

    assert found == {"server": "a", "servers": ["a"]}


async def test_many_cookies_of_one_address_get_the_replies_of_one_person(
    url: str, tmp_path: Path
) -> None:
    limits = "limits: {per_user: {requests_per_day: 3}}\n"
    async with two_instances(url, tmp_path, "say:good day", more=limits) as both:
        asked = [
            both.ask_from(f"2001:db8:0:1::{n}", (both.one, both.other)[n % 2]) for n in range(6)
        ]
        states = [await one for one in asked]
        neighbour = await both.ask_from("2001:db8:0:2::1", both.one)

    assert states == ["done"] * 3 + ["offline"] * 3
    assert neighbour == "done"


async def test_the_messages_of_a_minute_are_limited_at_all_instances_together(
    url: str, tmp_path: Path
) -> None:
    limits = "participation: {user_per_minute: 3}\n"
    async with two_instances(url, tmp_path, "say:good day", more=limits) as both:
        statuses = []
        for number in range(4):
            place = (both.one, both.other)[number % 2]
            body = {"id": f"message-{number}", "text": "hello"}
            async with both.http.post(f"{place}/api/chats/{CHAT}/messages", json=body) as answer:
                statuses.append(answer.status)

    assert statuses == [202, 202, 202, 429]
