"""A bot that is killed again and again still answers every message exactly once."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
LIVES = 20
PER_LIFE = 10
CHANNELS = 20
LONG_PAUSES = (3, 9, 15)
"""Lives before which more time has passed than the platform remembers a nonce."""

Said = tuple[str, str, str]


class Bot:
    """One process after the other on the same database, fed with everything again each time, as
    a resumed session redelivers what it has sent before."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.jsonl"
        self._database = folder / "bot.db"
        self._ahead_s = 0.0
        self.messages: list[Said] = []

    async def born(self, *, long_pause: bool) -> Process:
        self._ahead_s += 150.0 if long_pause else 0.0
        path = os.pathsep.join((str(TESTS), str(TESTS.parent / "src")))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / "mortal_bot.py"),
            *(str(self._database), str(self.log), str(self._ahead_s)),
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert process.stdin is not None
        process.stdin.write(b"".join(json.dumps(m).encode() + b"\n" for m in self.messages))
        return process

    def answered(self) -> Counter[str]:
        if not self.log.exists():
            return Counter()
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return Counter(message_id for line in lines for message_id in line["answers"])


async def words(process: Process, count: int) -> None:
    """Let that many things happen, as far as anything still happens."""
    assert process.stdout is not None
    while count > 0 and (word := await process.stdout.readline()):
        count -= word.strip() in {b"up", b"received", b"wrote", b"said", b"closed", b"looked"}


async def killed(process: Process) -> None:
    process.kill()
    await process.wait()


async def test_every_message_is_answered_exactly_once_by_a_bot_that_keeps_dying(
    tmp_path: Path,
) -> None:
    dice = Random(20260923)
    bot = Bot(tmp_path)
    for life in range(LIVES):
        for number in range(PER_LIFE):
            author, channel = str(dice.randrange(5)), f"c{dice.randrange(CHANNELS)}"
            bot.messages.append((f"m{life}-{number}", author, channel))
        process = await bot.born(long_pause=life in LONG_PAUSES)
        await words(process, dice.randrange(1, len(bot.messages) + 4 * PER_LIFE))
        await killed(process)

    process = await bot.born(long_pause=False)
    while len(bot.answered()) < len(bot.messages):
        await words(process, 1)
    await killed(process)

    assert bot.answered() == Counter({message_id: 1 for message_id, _, _ in bot.messages})
