"""Messages per second through the whole pipeline, and what a message costs as memory grows.

Inbox in a real database, participation, batching, prompt, model router, delivery and ledger; only
the model server answers at once and the platform shows nothing. Run with
`python bench/pipeline.py`; the cost at 100,000 stored messages in a channel may be at most 1.3
times that at 10.
"""

import asyncio
import logging
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import structlog

from understudy.config.settings import Participation, Settings
from understudy.conversation.delivery import OfflineNotice, Reply, ReplyContext
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Addressed, Author, Inbound, Place
from understudy.conversation.personas.registry import Library, Personas
from understudy.conversation.preferences import Preferences
from understudy.llm.messages import Usage
from understudy.llm.testing import ScriptedClient, saying
from understudy.routing.candidates import Candidate
from understudy.routing.router import ModelRouter
from understudy.storage.stores import Stores, open_storage

STORED = (10, 1_000, 100_000)
MESSAGES = 60
ROUNDS = 7
MOST_RATIO = 1.3
AUTHOR = Author("1", "Ann")


class Nowhere:
    """A platform that shows nothing and tells when a reply has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Semaphore(0)

    def open(self, task: ReplyContext) -> "Unseen":
        return Unseen(task, self.ended)


class Unseen:
    def __init__(self, task: ReplyContext, ended: asyncio.Semaphore) -> None:
        self.task = task
        self.ended = ended

    async def earlier(self) -> tuple[str, ...]:
        return ()

    def shown(self) -> bool:
        return False

    async def write(self, text: str) -> None:
        pass

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        return (reply.id,)

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        raise RuntimeError(f"no reply: {notice.reason}")

    async def withdraw(self) -> None:
        pass

    async def aclose(self) -> None:
        self.ended.release()


def filled(path: Path, channel: str, count: int) -> None:
    """`count` messages in a channel, every other one the bot's, written past the program."""
    with sqlite3.connect(path) as database:
        (top,) = database.execute("SELECT coalesce(max(seq), 0) FROM messages").fetchone()
        database.executemany(
            "INSERT INTO messages (seq, position, role, platform, message_id, channel_id, private,"
            " age_restricted, author_id, author_name, author_is_bot, text, to_others, sent_at,"
            " arrived_at, state, directed) VALUES (?, ?, ?, 'web', ?, ?, 1, 0, '1', 'Ann', 0,"
            " 'some words that were said here a while ago', 0, ?, ?, 'answered', 1)",
            (
                (seq, seq, ("user", "assistant")[seq % 2], f"old-{seq}", channel, at, at)
                for seq in range(top + 1, top + 1 + count)
                for at in (time.time() - 3600,)
            ),
        )
    database.close()


def bot(opened: Stores, platform: Nowhere) -> MessageRouter:
    client = ScriptedClient([saying("Of ", "course.", usage=Usage(400, 5))])
    models = ModelRouter([Candidate("lab", "instant", "lab", "openai", client)])
    settings = Settings(
        participation=Participation(user_per_minute=10**9, channel_per_minute=10**9)
    )
    personas = Personas(settings.persona, Library())
    router = MessageRouter(
        Dependencies(
            store=opened.inbox,
            preferences=Preferences(opened.preferences),
            reply=models.reply,
            settings=lambda: settings,
            personas=lambda: personas,
        )
    )
    router.register("web", platform.open)
    return router


async def talk(router: MessageRouter, platform: Nowhere, channel: str, first: int) -> float:
    """Seconds per message of one conversation: each is sent when the last one was answered."""
    place = Place("web", channel, private=True)
    began = time.perf_counter()
    for number in range(first, first + MESSAGES):
        inbound = Inbound(
            f"{channel}-{number}", place, AUTHOR, "What do you say?", time.time(), Addressed.DM
        )
        await router.receive(inbound)
        await platform.ended.acquire()
    return (time.perf_counter() - began) / MESSAGES


async def at_once(router: MessageRouter, platform: Nowhere, channels: int) -> float:
    """Messages per second of many conversations at the same time."""
    began = time.perf_counter()
    count = channels * 10
    for number in range(10):
        for channel in range(channels):
            place = Place("web", f"crowd-{channel}", private=True)
            message_id = f"crowd-{channel}-{number}"
            await router.receive(
                Inbound(message_id, place, AUTHOR, "Hello?", time.time(), Addressed.DM)
            )
        for _ in range(channels):
            await platform.ended.acquire()
    return count / (time.perf_counter() - began)


async def measured(path: Path) -> tuple[dict[int, float], float]:
    async with open_storage(path, persist=True) as opened:
        for count in STORED:
            filled(path, f"c{count}", count)
        platform = Nowhere()
        router = bot(opened, platform)
        costs: dict[int, list[float]] = {count: [] for count in STORED}
        for count in STORED:
            await talk(router, platform, f"c{count}", -MESSAGES)
        for round_ in range(ROUNDS):
            # In turns, so that a slow moment of the machine falls on all of them.
            for count in STORED:
                first = round_ * MESSAGES
                costs[count].append(await talk(router, platform, f"c{count}", first))
        rate = await at_once(router, platform, channels=50)
        await router.aclose()
    # The best round: everything slower than it is the machine's other work.
    return {count: min(times) for count, times in costs.items()}, rate


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as folder:
        costs, rate = asyncio.run(measured(Path(folder) / "bench.db"))
    print("The whole pipeline, from message to stored reply (instant provider, SQLite)")
    print(f"{'stored in the channel':>22} {'ms per message':>15} {'messages/s':>11}")
    for count, cost_s in costs.items():
        print(f"{count:>22,} {cost_s * 1000:>15.2f} {1 / cost_s:>11,.0f}")
    print(f"50 conversations at the same time: {rate:,.0f} messages/s")
    ratio = costs[STORED[-1]] / costs[STORED[0]]
    print(
        f"ratio: {ratio:.2f} (cost at {STORED[-1]:,} to cost at {STORED[0]}; at most {MOST_RATIO})"
    )
    return 0 if ratio <= MOST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
