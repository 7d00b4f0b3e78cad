"""5,000 messages a minute in 1,000 channels, one process: is any lost, how much is each delayed?

    python bench/crowd.py [--seconds N] [--per-minute N] [--channels N] [--url STORAGE_URL]

The whole bot as it is configured by default, with its database, ledger and JSON logs, over real
HTTP to a made-up model server that takes 0.7 s for a reply of twenty words. Only the platform is
made up: it shows nothing and notes when the first word and the end of each reply came. Messages
come on time whether or not the bot keeps up.
"""

import argparse
import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from machine import free_port, own_memory_mb, stop, wait_for
from run import BUILD, build

from understudy.app.bot import answering, open_bot
from understudy.config.load import load_config
from understudy.conversation.delivery import OfflineNotice, Reply, ReplyContext
from understudy.conversation.messages import Addressed, Author, Inbound, Place
from understudy.observability.logs import Logs

BEHAVIOUR = "d300-g20-n20"
FIRST_WORD_S = 0.3
WHOLE_S = 0.7
PATIENCE_S = 60


@dataclass
class Crowd:
    """A platform that only takes times, by message."""

    sent: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    replies: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def all_ended(self, count: int) -> None:
        """Wait until so many messages have their reply; with patience, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while len(self.ended) < count:
                    self.news.clear()
                    await self.news.wait()

    def open(self, task: ReplyContext) -> "Unseen":
        return Unseen(self, task)


@dataclass
class Unseen:
    crowd: Crowd
    task: ReplyContext

    async def earlier(self) -> tuple[str, ...]:
        return ()

    def shown(self) -> bool:
        return False

    async def write(self, _text: str) -> None:
        now = time.perf_counter()
        for message_id in self.task.message_ids:
            self.crowd.first.setdefault(message_id, now)

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        now = time.perf_counter()
        for message_id in self.task.message_ids:
            self.crowd.replies[message_id] += 1
            self.crowd.ended[message_id] = now
        self.crowd.news.set()
        return (reply.id,)

    async def offline(self, _notice: OfflineNotice) -> tuple[str, ...]:
        self.crowd.failed += 1
        return ()

    async def withdraw(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def write_config(folder: pathlib.Path, upstream: int, url: str = "") -> pathlib.Path:
    server = {
        "engine": "openai",
        "base_url": f"http://127.0.0.1:{upstream}/{BEHAVIOUR}/v1",
        "name": "bench-model",
        "max_concurrency": 1000,
    }
    config = {
        "model": {"provider_order": ["quick"], "servers": {"quick": server}},
        "web": {"enabled": False},
        "discord": {"enabled": False},
        "storage": {"url": url or f"sqlite:///{folder / 'bench.db'}"},
        "logging": {"format": "json"},
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))
    return file


def message(number: int, channels: int) -> Inbound:
    channel = number % channels
    return Inbound(
        f"m{number}",
        Place("web", f"c{channel}", private=True),
        Author(f"u{channel}", f"Ann {channel}"),
        f"And what happened then? ({number})",
        time.time(),
        Addressed.DM,
    )


async def talk(options: argparse.Namespace, file: pathlib.Path, log: pathlib.Path) -> Crowd:
    crowd, config = Crowd(), load_config(file, os.environ)
    count = options.seconds * options.per_minute // 60
    receiving: set[asyncio.Task[object]] = set()
    with log.open("w") as stream:
        logs = Logs(config.settings.logging, stream)
        async with open_bot(config, logs) as bot:
            bot.messages.register("web", crowd.open)
            async with answering(bot):
                began = sampled = time.perf_counter()
                print(f"  0 s: {own_memory_mb():,.0f} MB", flush=True)
                for number in range(count):
                    due = began + number * 60 / options.per_minute
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    crowd.sent[f"m{number}"] = due
                    task = asyncio.create_task(
                        bot.messages.receive(message(number, options.channels))
                    )
                    receiving.add(task)
                    task.add_done_callback(receiving.discard)
                    if time.perf_counter() - sampled > options.sample:
                        sampled = time.perf_counter()
                        waiting = len(crowd.sent) - len(crowd.ended)
                        print(f"{sampled - began:3.0f} s: {own_memory_mb():,.0f} MB, "
                              f"{waiting} under way", flush=True)  # fmt: skip
                await crowd.all_ended(count)
        print(f"end: {own_memory_mb():,.0f} MB", flush=True)
    return crowd


def quantiles(times: list[float]) -> str:
    ordered = sorted(times)
    return ", ".join(
        f"{name} {ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000:,.0f} ms"
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("most", 1.0))
    )


def report(crowd: Crowd, cpu_s: float, seconds: float) -> int:
    """Prints what came of it; how many messages were lost, doubled or failed."""
    lost = len(crowd.sent) - len(crowd.ended)
    doubled = sum(count - 1 for count in crowd.replies.values())
    first = [crowd.first[m] - at - FIRST_WORD_S for m, at in crowd.sent.items() if m in crowd.first]
    whole = [crowd.ended[m] - at - WHOLE_S for m, at in crowd.sent.items() if m in crowd.ended]
    print(f"{len(crowd.sent):,} messages: {lost} lost, {doubled} doubled, {crowd.failed} failed")
    print(f"added to the first word: {quantiles(first)}")
    print(f"added to the whole reply: {quantiles(whole)}")
    print(f"CPU: {cpu_s / len(crowd.sent) * 1000:.2f} ms per message, {cpu_s / seconds:.0%} of one")
    return lost + doubled + crowd.failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--per-minute", type=int, default=5000)
    parser.add_argument("--channels", type=int, default=1000)
    parser.add_argument("--url", default="", help="an empty database; SQLite without it")
    parser.add_argument("--sample", type=float, default=20.0)
    options = parser.parse_args()
    build()
    port = free_port()
    upstream = subprocess.Popen([BUILD / "upstream", str(port)], start_new_session=True)
    try:
        wait_for(port, upstream)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            print(f"{options.per_minute:,} messages a minute in {options.channels:,} channels, "
                  f"load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
            began, cpu = time.perf_counter(), time.process_time()
            crowd = asyncio.run(
                talk(options, write_config(folder, port, options.url), folder / "log")
            )
            spent = time.perf_counter() - began
            return min(1, report(crowd, time.process_time() - cpu, spent))
    finally:
        stop(upstream)


if __name__ == "__main__":
    sys.exit(main())
