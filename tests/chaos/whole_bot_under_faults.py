"""One answer to every message while servers, Discord, database, file and process all fail.

A short form runs with all tests; `make chaos` and `make chaos-long` run the long ones.
"""

import asyncio
import os
import random
import re
import sqlite3
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from discord_double.rest import Fault
from understudy.rehearsal.behaviours import FAULTS, Behaviour
from understudy.rehearsal.script import at_random
from understudy.rehearsal.server import RehearsalServer
from understudy.rehearsal.stage import Move, Stage, Words

MESSAGES = int(os.environ.get("CHAOS_MESSAGES", "30"))
KILLS = int(os.environ.get("CHAOS_KILLS", "1"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
CHANNELS = max(5, min(100, MESSAGES // 10))
NAMES = ("a", "b", "c", "d", "last")
_TESTS = Path(__file__).parents[1]
_PROGRAM = Path(__file__).with_name("whole_bot.py")
_WHOLE = re.compile(r"\[(\w+)#(\d+)\] about (q\d+): (?:word ){20}end of \3")


@dataclass(frozen=True)
class Marked:
    """Words that tell which call of which server says them, and about which question."""

    server: str
    count: int | None

    async def play(self, stage: Stage) -> None:
        question = re.findall(r"q\d+", str(stage.asked.body["messages"]))[-1]
        mark = f"[{self.server}#{stage.asked.number}]"
        text = [f"{mark} ", "about ", f"{question}: ", *["word "] * 20, "end ", f"of {question}"]
        for word in text[: self.count]:
            await stage.say(word)


@dataclass
class Chaos:
    double: DiscordDouble
    folder: Path
    chance: random.Random
    servers: dict[str, RehearsalServer] = field(default_factory=dict)
    faulted: int = 0
    kills: int = 0
    stirs: Counter[str] = field(default_factory=Counter)
    process: asyncio.subprocess.Process | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def database(self) -> Path:
        return self.folder / "bot.db"

    def script(self, name: str, number: int) -> None:
        """Let this server fail often; the last one only now and then."""
        fates = at_random(SEED * 10 + number, share=0.15 if name == "last" else 0.5)

        def play(call: int) -> Behaviour:
            fate = fates(call)
            self.faulted += fate.name in FAULTS
            moves: list[Move] = [
                Marked(name, move.count) if isinstance(move, Words) else move for move in fate.moves
            ]
            return replace(fate, moves=tuple(moves))

        self.servers[name].play(play)

    def configure(self) -> None:
        first = list(NAMES[:-1])
        self.chance.shuffle(first)
        rows = "\n".join(
            f'    {name}: {{base_url: "{server.base_url}", timeout_seconds: 2,'
            " idle_timeout_seconds: 2}"
            for name, server in self.servers.items()
        )
        self.config.write_text(
            f"""\
model:
  provider_order: [{", ".join([*first, NAMES[-1]])}]
  servers:
{rows}
storage: {{url: "sqlite:///{self.database}"}}
persona: {{folder: "{self.folder}"}}
web: {{enabled: false}}
conversation: {{interval_seconds: 0.02, quiet_seconds: 0.05, long_chunk_quiet_seconds: 0.05}}
participation: {{user_per_minute: 100000, channel_per_minute: 100000}}
discord: {{edit_interval_seconds: 0.5, catch_up_messages: 100, catch_up_minutes: 60}}
"""
        )

    async def start(self) -> None:
        paths = os.pathsep.join([str(_TESTS), str(_TESTS.parent / "src")])
        told = (self.double.api_url, self.double.gateway_url, str(self.config))
        with (self.folder / "bot.log").open("a") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(_PROGRAM),
                *told,
                env={**os.environ, "PYTHONPATH": paths, "DISCORD_TOKEN": self.double.token},
                stdout=log,
                stderr=log,
            )

    async def stop(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stir(self) -> None:
        """One more thing goes wrong."""
        what = self.chance.choice(("drop", "invalid", "reconnect", "rest", "edit", "break", "busy"))
        self.stirs[what] += 1
        match what:
            case "drop":
                await self.double.gateway.drop()
            case "invalid":
                await self.double.gateway.invalidate(resumable=False)
            case "reconnect":
                await self.double.gateway.ask_to_reconnect()
            case "rest":
                method = self.chance.choice(("POST", "PATCH"))
                fault = Fault(method, r"/api/channels/\d+/messages.*", 502, after_effect=True)
                self.double.spoil(fault)
            case "edit":
                self.configure()
            case "break":
                self.config.write_text("model: {provider_order: [nobody")
                await asyncio.sleep(0.3)
                self.configure()
            case _:
                await asyncio.to_thread(self.keep_busy, self.chance.uniform(0.2, 1.5))

    def keep_busy(self, seconds: float) -> None:
        """Another process that writes for a while, as SQLite sees it."""
        with sqlite3.connect(self.database, timeout=10, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")
        other.close()

    async def kill(self) -> None:
        await self.stop()
        self.kills += 1
        await self.start()

    def answers(self) -> dict[str, list[Json]]:
        """The whole and broken answers to each question, by its message's id."""
        found: dict[str, list[Json]] = {}
        for message in self.double.sent():
            parent = (message.get("message_reference") or {}).get("message_id")
            if parent and "[" in message["content"]:
                found.setdefault(parent, []).append(message)
        return found

    def recorded(self) -> Counter[tuple[str, str]]:
        """How often each served call stands in the ledger, by server and its id there."""
        books = sqlite3.connect(self.database)
        rows = books.execute(
            "SELECT provider, upstream_id FROM attempts WHERE upstream_id IS NOT NULL"
        )
        found = Counter((str(provider), str(call)) for provider, call in rows)
        books.close()
        return found


async def _unrest(chaos: Chaos, asking: asyncio.Task[list[Json]]) -> None:
    """Trouble all along, kills spread over the questions."""
    due = [chaos.chance.uniform(0.1, 0.9) * MESSAGES for _ in range(KILLS)]
    while not asking.done():
        await asyncio.sleep(chaos.chance.uniform(0.3, 1.5))
        asked = sum(
            m["author"]["id"] != chaos.double.world.me["id"]
            for place in chaos.double.world.messages.values()
            for m in place.values()
        )
        await chaos.double.ready()
        if sum(at <= asked for at in due) > chaos.kills:
            await chaos.kill()
        else:
            await chaos.stir()


async def _ask(chaos: Chaos, channels: list[Json], person: Json) -> list[Json]:
    asked = []
    for number in range(MESSAGES):
        text = chaos.double.mention(f"q{number}?")
        asked.append(await chaos.double.say(channels[number % CHANNELS], person, text))
        # No channel gets its next question before the last one was settled.
        await chaos.double.until(lambda: _open(chaos, asked) < CHANNELS - 1, timeout_s=240)
        await _until_settled(chaos, asked, channels[(number + 1) % CHANNELS])
    return asked


def _settled(chaos: Chaos, message: Json) -> bool:
    found = chaos.answers().get(message["id"], [])
    return any(_WHOLE.fullmatch(m["content"]) for m in found)


def _open(chaos: Chaos, asked: list[Json]) -> int:
    answers = chaos.answers()
    return sum(m["id"] not in answers for m in asked)


async def _until_settled(chaos: Chaos, asked: list[Json], channel: Json) -> None:
    last = next((m for m in reversed(asked) if m["channel_id"] == channel["id"]), None)
    if last is not None:
        await chaos.double.until(lambda: _settled(chaos, last), timeout_s=240)


def _violations(chaos: Chaos, asked: list[Json]) -> list[str]:
    """What is wrong with the answers, and with the books about them."""
    recorded = chaos.recorded()
    wrong = [f"{call} is recorded {times} times" for call, times in recorded.items() if times > 1]
    unbooked = 0
    questions = {m["id"]: m["content"].rsplit(" ", 1)[1].rstrip("?") for m in asked}
    for parent, found in chaos.answers().items():
        for answer in found:
            whole = _WHOLE.fullmatch(answer["content"])
            if whole is None or whole[3] != questions[parent]:
                wrong.append(f"{questions[parent]} was answered {answer['content']!r}")
            else:
                unbooked += not recorded[whole[1], f"chatcmpl-rehearsal-{whole[2]}"]
    # Only replies that ran at a kill may lack their record: at most one per channel.
    if unbooked > chaos.kills * CHANNELS:
        wrong.append(f"{unbooked} delivered answers are not in the ledger")
    return wrong


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_every_message_has_one_whole_answer_whatever_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncExitStack() as stack:
        double = await stack.enter_async_context(DiscordDouble())
        chaos = Chaos(double, tmp_path, random.Random(SEED))
        for number, name in enumerate(NAMES):
            chaos.servers[name] = await stack.enter_async_context(RehearsalServer())
            chaos.script(name, number)
        chaos.configure()
        guild = double.world.add_guild()
        channels = [double.world.add_channel(guild, f"room-{n}") for n in range(CHANNELS)]
        await chaos.start()
        stack.push_async_callback(chaos.stop)
        await double.until(lambda: double.gateway.sessions, timeout_s=60)
        asking = asyncio.create_task(_ask(chaos, channels, double.world.add_user("ann")))
        unrest = asyncio.create_task(_unrest(chaos, asking))
        asked = await asking
        await unrest
        with suppress(TimeoutError):  # what is missing is told below
            await double.until(lambda: all(_settled(chaos, m) for m in asked), timeout_s=240)
        await asyncio.sleep(1)  # what should not come, such as a second answer, would come now
        answers = chaos.answers()
        lost = [m["content"] for m in asked if m["id"] not in answers]
        doubled = [m["content"] for m in asked if len(answers.get(m["id"], ())) > 1]
        wrong = _violations(chaos, asked)
        calls = sum(server.calls for server in chaos.servers.values())
        with capsys.disabled():
            print(  # noqa: T201 - the figures are the result
                f"\n{calls} attempts reached a server; {dict(chaos.stirs)}\n"
                f"{len(asked)} messages, {chaos.kills} kills, {chaos.faulted} faulted attempts: "
                f"{len(lost)} lost, {len(doubled)} doubled, {len(wrong)} violations"
            )
        sizes = f"CHAOS_SEED={SEED} CHAOS_MESSAGES={MESSAGES} CHAOS_KILLS={KILLS}"
        again = f"replay: {sizes} pytest tests/chaos/whole_bot_under_faults.py"
        assert (lost, doubled, wrong) == ([], [], []), again
