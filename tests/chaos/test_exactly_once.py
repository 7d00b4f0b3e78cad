"""Exactly one answer to every message, however often the process is killed.

The short form runs with all tests; `make exactly-once` runs 200 messages and 20 kills.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from discord_double.double import DiscordDouble, buttons_of
from discord_double.payloads import Json

MESSAGES = int(os.environ.get("EXACTLY_ONCE_MESSAGES", "24"))
CHANNELS = int(os.environ.get("EXACTLY_ONCE_CHANNELS", "6"))
KILLS = int(os.environ.get("EXACTLY_ONCE_KILLS", "4"))
SEED = int(os.environ.get("EXACTLY_ONCE_SEED", "5"))
_PROGRAM = Path(__file__).parents[1] / "discord_double" / "bot_process.py"
_LONG_PAUSE_S = 400.0
"""Longer than Discord remembers a nonce, and than what the bot takes for a moment."""


@dataclass
class Killings:
    """Kills the bot at random requests: after their effect, before the bot hears of it."""

    double: DiscordDouble
    database: Path
    chance: random.Random
    done: int = 0
    long_pauses: int = 0
    at: list[str] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _method: str = ""
    _left: int = 0

    def __post_init__(self) -> None:
        self.double.rest.before_answer = self._count
        self.double.state.clock = lambda: time.time() + self._ahead_s()

    def _ahead_s(self) -> float:
        """Pauses are not waited for: both clocks are put forward."""
        return self.long_pauses * _LONG_PAUSE_S

    def _count(self, method: str, path: str) -> None:
        if method != self._method or path.endswith("/typing") or self.done >= KILLS:
            return
        self._left -= 1
        if self._left == 0 and self._process is not None:
            self._process.kill()
            self.at.append("sends" if method == "POST" else "edits")

    async def keep_running(self) -> None:
        """Start the bot again whenever it is dead, until cancelled."""
        try:
            while True:
                self._method = self.chance.choice(("POST", "PATCH"))
                self._left = self.chance.randint(1, MESSAGES // (2 * KILLS) + 1)
                self._process = await self._start()
                await self._process.wait()
                self.done += 1
                if self.done % 5 == 3:
                    self.long_pauses += 1
                    self.double.forget_nonces()
        finally:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
                await self._process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        options = {
            "api": self.double.api_url,
            "gateway": self.double.gateway_url,
            "token": self.double.token,
            "database": str(self.database),
            "clock_ahead_s": self._ahead_s(),
        }
        paths = os.pathsep.join([str(_PROGRAM.parents[1]), str(_PROGRAM.parents[2] / "src")])
        with self.database.with_suffix(".log").open("a") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                str(_PROGRAM),
                json.dumps(options),
                env={**os.environ, "PYTHONPATH": paths},
                stdout=log,
                stderr=log,
            )


@asynccontextmanager
async def _killed_now_and_then(killings: Killings) -> AsyncIterator[None]:
    running = asyncio.create_task(killings.keep_running())
    try:
        await killings.double.ready()
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _ask(double: DiscordDouble, chance: random.Random) -> list[Json]:
    """Questions of different people in all channels, with talk among people in between."""
    guild = double.state.add_guild()
    channels = [double.state.add_channel(guild, f"room-{n}") for n in range(CHANNELS)]
    bystander = double.state.add_user("bystander")
    people = [double.state.add_user(f"person-{n}") for n in range(MESSAGES)]
    await double.ready()
    asked: list[Json] = []
    for number, person in enumerate(people):
        channel = channels[number % CHANNELS]
        asked.append(await double.say(channel, person, double.mention(f"q{number}?")))
        if chance.random() < 0.2:
            await double.say(channel, bystander, "not for the bot")
        await asyncio.sleep(chance.uniform(0.0, 2.0 * _spread_s() / MESSAGES))
    return asked


def _spread_s() -> float:
    """Questions come over about as long as the kills take."""
    return 2.5 * KILLS


def _answers(double: DiscordDouble) -> Counter[str]:
    replies = (m.get("message_reference") for m in double.sent())
    return Counter(reference["message_id"] for reference in replies if reference)


def _settled(double: DiscordDouble, killings: Killings, asked: list[Json]) -> bool:
    return (
        killings.done >= KILLS
        and len(_answers(double)) >= len(asked)
        and all("Regenerate" in {b["label"] for b in buttons_of(m)} for m in double.sent())
    )


@pytest.mark.slow
async def test_every_message_has_exactly_one_answer_though_the_bot_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    started = time.monotonic()
    async with DiscordDouble() as double:
        killings = Killings(double, tmp_path / "understudy.db", chance)
        asking = asyncio.create_task(_ask(double, chance))
        async with _killed_now_and_then(killings):
            asked = await asking
            await double.until(
                lambda: _settled(double, killings, asked), timeout_s=max(60, 12 * KILLS)
            )

            answers = _answers(double)
            lost = [m["content"] for m in asked if answers[m["id"]] == 0]
            doubled = [m["content"] for m in asked if answers[m["id"]] > 1]
            by_id = {m["id"]: m for m in asked}
            with capsys.disabled():
                print(  # noqa: T201 - the figures are the result
                    f"\n{len(asked)} messages in {CHANNELS} channels, {killings.done} kills "
                    f"({killings.long_pauses} with a long pause), "
                    f"{len(lost)} lost, {len(doubled)} doubled, "
                    f"{time.monotonic() - started:.0f} s; "
                    f"killed at {killings.at.count('sends')} sends "
                    f"and {killings.at.count('edits')} edits"
                )
            assert (lost, doubled) == ([], [])
            assert len(double.sent()) == len(asked)
            for answer in double.sent():
                question = by_id[answer["message_reference"]["message_id"]]["content"]
                number = question.rsplit("q", 1)[1].rstrip("?")
                assert answer["content"].startswith(f"about q{number}:")
                assert answer["content"].endswith(f"end of q{number}")
