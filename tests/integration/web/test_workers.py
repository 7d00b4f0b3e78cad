"""Two workers serve the page on one port, whichever of them a connection reaches."""

import asyncio
from asyncio import to_thread as in_thread
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from bot_process import running_bot
from chaos.cluster_clients import free_port
from understudy.rehearsal.server import RehearsalServer
from web_setup import Events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
CONFIG = """\
model:
  provider_order: [a]
  servers:
    a: {{engine: openai, base_url: "{model}"}}
web: {{port: {port}, token: "operator"}}
"""
TOKEN = {"Authorization": "Bearer operator"}


@dataclass(frozen=True, slots=True)
class Workers:
    url: str
    http: aiohttp.ClientSession
    """Each request has a connection of its own."""

    async def instance(self, headers: Mapping[str, str]) -> str:
        """The worker that the next connection reaches."""
        async with self.http.get(f"{self.url}/api/operator/about", headers=headers) as answer:
            answer.raise_for_status()
            return str((await answer.json())["instance"])

    async def reach_both(self, headers: Mapping[str, str]) -> set[str]:
        seen: set[str] = set()
        while len(seen) < 2:
            seen.add(await self.instance(headers))
        return seen

    async def statuses(self, path: str, count: int) -> list[int]:
        async def get() -> int:
            async with self.http.get(f"{self.url}{path}") as answer:
                return answer.status

        return [await get() for _ in range(count)]


@asynccontextmanager
async def two_workers(folder: Path, behaviour: str) -> AsyncGenerator[Workers]:
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(RehearsalServer(behaviour))
        port = free_port()
        (folder / "config.yaml").write_text(CONFIG.format(model=model.base_url, port=port))
        bot = running_bot(folder, "--workers", "2")
        running = await in_thread(bot.__enter__)
        stack.push_async_callback(in_thread, bot.__exit__, None, None, None)
        await in_thread(running.until, "2 workers are running")
        connector = aiohttp.TCPConnector(force_close=True)
        jar = aiohttp.CookieJar(unsafe=True)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, cookie_jar=jar)
        )
        yield Workers(f"http://127.0.0.1:{port}", http)


async def test_both_workers_serve_the_page_and_one_login_is_good_at_each(tmp_path: Path) -> None:
    async with two_workers(tmp_path, "say:hello") as workers:
        url = f"{workers.url}/api/operator/login-link"
        async with workers.http.post(url, headers=TOKEN) as answer:
            path = str((await answer.json())["link"]).removeprefix(workers.url)

        logged_in = await workers.statuses(path, 1)
        reached = await workers.reach_both({})

    assert logged_in == [200]
    assert len(reached) == 2


async def test_a_login_link_works_once_at_both_workers_together(tmp_path: Path) -> None:
    async with two_workers(tmp_path, "say:hello") as workers:
        url = f"{workers.url}/api/operator/login-link"
        async with workers.http.post(url, headers=TOKEN) as answer:
            link = str((await answer.json())["link"])

        async def open_link() -> bool:
            async with aiohttp.ClientSession() as stranger, stranger.get(link) as answer:
                return answer.status == 200

        opened = await asyncio.gather(*(open_link() for _ in range(9)))

    assert sum(opened) == 1


async def test_conversations_go_on_whichever_workers_the_connections_reach(tmp_path: Path) -> None:
    async with two_workers(tmp_path, "slow:1.5") as workers:
        await workers.statuses("/", 1)

        async def converse(chat: str) -> int:
            """The number of times that the growing text was shown."""
            base = f"{workers.url}/api/chats/{chat}"
            growing = set[str]()
            async with workers.http.get(f"{base}/events") as stream:
                events = Events(stream)
                body = {"id": "question-1", "text": "And then?"}
                async with workers.http.post(f"{base}/messages", json=body) as sent:
                    sent.raise_for_status()
                while True:
                    _, data = await events.next()
                    entries = data.get("entries", [data])
                    assert isinstance(entries, list)
                    for entry in entries:
                        if entry.get("kind") == "reply" and entry["state"] == "done":
                            return len(growing)
                        if entry.get("kind") == "reply":
                            growing.add(str(entry.get("blocks")))

        shown = await asyncio.gather(*(converse(f"conversation-{n}") for n in range(8)))

    assert min(shown) >= 2


async def test_stop_reaches_the_worker_that_writes(tmp_path: Path) -> None:
    async with two_workers(tmp_path, "slow:3") as workers:
        await workers.statuses("/", 1)

        async def stop_one(chat: str) -> str:
            base = f"{workers.url}/api/chats/{chat}"
            async with workers.http.get(f"{base}/events") as stream:
                events = Events(stream)
                body = {"id": "question-1", "text": "And then?"}
                (await workers.http.post(f"{base}/messages", json=body)).raise_for_status()
                reply = await _reply_in(events, lambda entry: entry["state"] == "writing")
                (await workers.http.post(f"{base}/stop", json={"reply": reply})).raise_for_status()
                return await _reply_in(events, lambda entry: entry["state"] == "stopped")

        stopped = await asyncio.gather(*(stop_one(f"conversation-{n}") for n in range(8)))

    assert len(set(stopped)) == 8


async def _reply_in(events: Events, is_it: Callable[[Mapping[str, object]], bool]) -> str:
    while True:
        _, data = await events.next()
        entries = data.get("entries", [data])
        assert isinstance(entries, list)
        for entry in entries:
            if entry.get("kind") == "reply" and is_it(entry):
                return str(entry["id"])
            if entry.get("kind") == "user" and entry["state"] == "stopped":
                # Stopped before its first text.
                return str(entry["reply"])


async def test_metrics_of_both_workers_are_on_one_page(tmp_path: Path) -> None:
    async with two_workers(tmp_path, "say:hello") as workers:
        shown = ""
        while not all(f'worker="{number}"' in shown for number in (1, 2)):
            async with workers.http.get(f"{workers.url}/metrics", headers=TOKEN) as answer:
                shown = await answer.text()

    assert shown.count("# TYPE router_inflight gauge") == 1
    assert not list(tmp_path.glob("*-metrics-*"))
