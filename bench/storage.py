"""What one message costs in the database, with many and with few messages stored.

    bench/storage.py                               SQLite
    bench/storage.py --url postgresql+psycopg://…  an empty database on a PostgreSQL server

For each size: stores that many messages, then sends messages through the inbox as the bot does
(store, read the work, claim, renew, settle with a reply of two attempts) and prints per message the
CPU time of this process, that of the server where it runs on this machine, the wall time, the wall
time of a claim, and the growth of the database.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from msgspec.structs import replace
from sqlalchemy import Connection, func, insert, select, text

from understudy.conversation.inbox import (
    BatchResult,
    BatchState,
    Channel,
    Claim,
    Decision,
    Sent,
)
from understudy.conversation.messages import Author, Inbound, Place
from understudy.llm.client import Phase
from understudy.routing.records import (
    AttemptRecord,
    AttemptRole,
    CostSource,
    NextStep,
    Origin,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
)
from understudy.storage import inbox_rows
from understudy.storage.database import Database
from understudy.storage.stores import Stores, open_storage
from understudy.storage.tables import messages

CHANNELS = 1000
TEXT = "What is the weather like where you are, and what do you make of it? " * 2
DECISION = Decision(answer=True, reason="mention", directed=True)
ME = Author("understudy", "Understudy", is_bot=True)


def inbound(number: int) -> Inbound:
    place = Place("discord", f"channel {number % CHANNELS}", guild_id="1")
    author = Author(f"user {number % 5000}", "Ann")
    return Inbound(f"{10**17 + number}", place, author, TEXT, sent_at=time.time())


async def fill(database: Database, size: int) -> None:
    """Store old, answered messages directly, until there are `size`."""
    counted = select(func.coalesce(func.max(messages.c.seq), 0), func.count(messages.c.seq))
    highest, stored = await database.read(lambda on: on.execute(counted).one())
    for start in range(highest + 1, highest + 1 + size - stored, 5000):
        end = min(start + 5000, highest + 1 + size - stored)
        rows = [_old_row(seq) for seq in range(start, end)]
        await database.write(lambda on, rows=rows: on.execute(insert(messages), rows))
    await database.write(advance)


def _old_row(seq: int) -> dict[str, object]:
    row = inbox_rows.message_row(inbound(seq), DECISION, 1.0e9)
    place = {"seq": seq, "position": seq, "batch_id": f"batch {seq}", "reply_id": None}
    return {**row, **place, "state": "answered"}


def advance(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT setval('messages_seq_seq', (SELECT max(seq) FROM messages))")
        )


def record(number: int) -> ReplyRecord:
    now = time.time()
    attempt = AttemptRecord(
        ts=now,
        request_id=f"reply {number}",
        attempt=1,
        of_max=8,
        sink="discord",
        provider="openrouter",
        label="openrouter",
        engine="openrouter",
        endpoint_host="openrouter.ai",
        key_ref=None,
        model_requested="lab/model",
        role=AttemptRole.NORMAL,
        outcome=Outcome.ERROR,
        phase=Phase.CONNECT,
        next=NextStep.FAILOVER,
        budget_ms=8000,
        cost_source=CostSource.UNKNOWN,
        config_rev="1",
    )
    won = replace(attempt, attempt=2, outcome=Outcome.OK, next=NextStep.DELIVER)
    return ReplyRecord(
        ts=now,
        request_id=f"reply {number}",
        sink="discord",
        outcome=ReplyOutcome.DELIVERED,
        attempts=(attempt, won),
        winner=won,
        t_total_ms=1000,
        origin=Origin("discord:c", "discord:u"),
    )


async def one_message(stores: Stores, number: int) -> tuple[float, float, int]:
    """The wall time of the claim, the CPU time of reading the history, and its lines."""
    inbox, message, now = stores.inbox, inbound(number), time.time()
    await inbox.add(message, DECISION, now)
    (waiting,) = (await inbox.work(Channel.of(message.place))).waiting
    began = time.perf_counter()
    claim = Claim(
        f"b{number}", f"reply {number}", "n", (waiting.seq,), directed=True, lease_until=now + 30
    )
    batch = await inbox.claim(claim, now)
    took = time.perf_counter() - began
    assert batch is not None
    reading = time.process_time()
    lines = await inbox.history(Channel.of(message.place), waiting.seq, 60)
    reading = time.process_time() - reading
    await inbox.renew(batch.id, now + 40)
    sent = Sent(TEXT, (f"sent {number}",), ME)
    ended = BatchResult(BatchState.ANSWERED, sent, record(number))
    assert await inbox.settle(batch.id, ended, now)
    return took, reading, len(lines)


def size(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        return int(connection.execute(text("PRAGMA page_count")).scalar_one()) * 4096
    size = text("SELECT pg_database_size(current_database())")
    return int(connection.execute(size).scalar_one())


def server_process(connection: Connection) -> psutil.Process | None:
    """The server's parent process, where it runs on this machine."""
    if connection.dialect.name == "sqlite":
        return None
    backend = int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
    try:
        return psutil.Process(backend).parent()
    except psutil.Error:
        return None


def cpu_of(server: psutil.Process | None) -> float:
    """Seconds of all processes of the server, those that ended included."""
    if server is None:
        return 0.0
    own = server.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in server.children():
        times = child.cpu_times()
        total += times.user + times.system
    return total


async def measure(stores: Stores, numbers: Iterator[int], count: int) -> None:
    for _ in range(100):
        await one_message(stores, next(numbers))
    before = await stores.database.read(size)
    server = await stores.database.read(server_process)
    served, cpu, wall = cpu_of(server), time.process_time(), time.perf_counter()
    found = [await one_message(stores, next(numbers)) for _ in range(count)]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    served = cpu_of(server) - served
    claims, reading, lines = zip(*found, strict=True)
    grown = await stores.database.read(size) - before
    print(
        f"  CPU {cpu / count * 1000:.2f} ms, server {served / count * 1000:.2f} ms, "
        f"reading {sum(lines) / count:.0f} lines of history {sum(reading) / count * 1000:.2f} ms, "
        f"wall {wall / count * 1000:.2f} ms per message; "
        f"claim median {statistics.median(claims) * 1000:.2f} ms, "
        f"p99 {statistics.quantiles(claims, n=100)[98] * 1000:.2f} ms; "
        f"{grown / count / 1000:.1f} kB per message"
    )


async def main(url: str | None, sizes: list[int], count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = None if url else Path(folder) / "bench.db"
        async with open_storage(path or url or "", persist=True) as stores:
            numbers = iter(range(10**8, 10**9))
            for size in sizes:
                await fill(stores.database, size)
                print(f"{stores.database.name.split(':')[0]}, {size:,} messages stored")
                await measure(stores, numbers, count)


if __name__ == "__main__":
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--url")
    ask.add_argument("--sizes", type=int, nargs="+", default=[10, 100_000])
    ask.add_argument("--count", type=int, default=500)
    given = ask.parse_args()
    asyncio.run(main(given.url, given.sizes, given.count))
