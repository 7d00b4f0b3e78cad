"""What summaries, notes and recall add to the time to the first token.

    python bench/memory.py [--rounds N] [--messages N] [--stored N]

The whole bot in one process, over real HTTP to a made-up model server that answers at once, in one
conversation with 10,000 stored messages. Each round opens the bot once for each mode, in another
order, on a copy of the same database: without memory, with a summary and notes, with recall, and
with proposals of notes too. Messages come one after the other; the time is from a message's arrival
to the first text on the platform.
"""

import argparse
import asyncio
import io
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from itertools import accumulate

from crowd import Crowd
from machine import free_port, stop, wait_for
from run import BUILD, build

from understudy.app.bot import answering, open_bot
from understudy.config.load import load_config
from understudy.conversation.inbox import Channel, Line
from understudy.conversation.messages import Addressed, Author, Inbound, Place
from understudy.memory.store import NoteScope, Summary
from understudy.observability.logs import Logs
from understudy.storage.stores import open_storage

PLACE = Place("web", "c1", parent_id="u1", private=True)
ANN = Author("u1", "Ann")
BOT = Author("understudy", "Understudy", is_bot=True)
_SYLLABLES = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("a", "el", "or", "ui")]
WORDS = [f"{a}{b}{c}" for a in _SYLLABLES for b in _SYLLABLES for c in _SYLLABLES[:9]]
COMMONNESS = list(accumulate(1 / rank for rank in range(1, len(WORDS) + 1)))
"""As in languages, the frequency of a word is the inverse of its rank."""
WARM_UP = 20
MODES = {
    "without memory": ({"summary": {"enabled": False}}, False),
    "summary and notes": ({}, True),
    "summary, notes and recall": ({"recall": True}, True),
    "the same and proposals": ({"recall": True, "propose": True}, True),
}


def sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, cum_weights=COMMONNESS, k=14))


async def prepare(file: pathlib.Path, stored: int, *, remembered: bool) -> None:
    """A database with one long conversation and, if asked for, a summary and notes of it."""
    chance = random.Random(1)
    async with open_storage(file, persist=True) as stores:
        lines = [
            Line(0, 0, "assistant" if n % 2 else "user", f"p{n}", BOT if n % 2 else ANN,
                 sentence(chance), 1000.0 + n, reply_id=f"r{n}" if n % 2 else None)
            for n in range(stored)
        ]  # fmt: skip
        assert await stores.inbox.add_past(PLACE, lines, 1000.0)
        if not remembered:
            return
        for _ in range(10):
            await stores.memory.add_note(NoteScope("web", "", "u1"), sentence(chance), 1.0)
        claim = await stores.memory.claim_summary(Channel.of(PLACE), 1.0, 60.0)
        text = " ".join(sentence(chance) for _ in range(15))
        about = Summary(text, 1, stored - 40, 0, time.time())
        assert await stores.memory.save_summary(claim, about, ["u1"])


def write_config(folder: pathlib.Path, upstream: int, memory: dict[str, object]) -> pathlib.Path:
    server = {
        "engine": "openai",
        "base_url": f"http://127.0.0.1:{upstream}/n20/v1",
        "name": "bench-model",
    }
    config = {
        "model": {"provider_order": ["quick"], "servers": {"quick": server}},
        "web": {"enabled": False, "titles": False},
        "discord": {"enabled": False},
        "memory": memory,
        "storage": {"url": f"sqlite:///{folder / 'bench.db'}"},
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))
    return file


async def _show(_proposal: object, _answered: object) -> None:
    """Proposals are made, and not shown."""


async def first_tokens(config_file: pathlib.Path, messages: int) -> list[float]:
    """Milliseconds to the first text, for each message after the first ones."""
    crowd, config, chance = Crowd(), load_config(config_file, os.environ), random.Random(2)
    logs = Logs(config.settings.logging, io.StringIO())
    async with open_bot(config, logs) as bot:
        bot.messages.register("web", crowd.open)
        bot.memory.show_proposals("web", _show)
        async with answering(bot):
            for number in range(WARM_UP + messages):
                name = f"q{number}"
                crowd.sent[name] = time.perf_counter()
                await bot.messages.receive(
                        Inbound(name, PLACE, ANN, sentence(chance), time.time(), Addressed.DM,
                                unlimited=True)
                    )  # fmt: skip
                await crowd.all_ended(number + 1)
    measured = [f"q{number}" for number in range(WARM_UP, WARM_UP + messages)]
    return [1000 * (crowd.first[name] - crowd.sent[name]) for name in measured]


def copy_database(folder: pathlib.Path, name: str) -> None:
    for file in folder.glob("bench.db*"):
        file.unlink()
    shutil.copy(folder / name, folder / "bench.db")


async def measure(options: argparse.Namespace, upstream: int) -> dict[str, list[float]]:
    """The median of each run, by mode."""
    medians: dict[str, list[float]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for remembered in (False, True):
            await prepare(folder / f"{remembered}.db", options.stored, remembered=remembered)
        for number in range(options.rounds):
            turned = list(MODES)[number % len(MODES) :] + list(MODES)[: number % len(MODES)]
            for mode in turned:
                memory, remembered = MODES[mode]
                copy_database(folder, f"{remembered}.db")
                config = write_config(folder, upstream, memory)
                times = await first_tokens(config, options.messages)
                medians[mode].append(statistics.median(times))
                print(f"  round {number + 1}, {mode}: {medians[mode][-1]:.2f} ms", flush=True)
    return medians


def show(medians: dict[str, list[float]]) -> None:
    usual = statistics.median(medians["without memory"])
    print("\n| | median of the runs, ms | spread of the runs, ms | added, ms |\n|---|---|---|---|")
    for mode, runs in medians.items():
        middle, spread = statistics.median(runs), max(runs) - min(runs)
        print(f"| {mode} | {middle:.2f} | {spread:.2f} | {middle - usual:+.2f} |")
    print(f"\nLoad of the machine: {', '.join(f'{one:.1f}' for one in os.getloadavg())}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--stored", type=int, default=10_000)
    options = parser.parse_args()
    build()
    port = free_port()
    upstream = subprocess.Popen([BUILD / "upstream", str(port)])
    try:
        wait_for(port, upstream)
        show(asyncio.run(measure(options, port)))
    finally:
        stop(upstream)


if __name__ == "__main__":
    main()
