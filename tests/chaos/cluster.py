"""Three instances on one PostgreSQL and one Discord token, while processes and connections fail.

`python -m chaos.cluster MESSAGES FAULTS SEED`, or `make chaos-cluster`. Questions come in several
channels while instances are killed, stopped for longer than a role's lease, cut off from the
database, and the database is restarted. At the end every question has one reply, and the replies
of a channel are in the order of its questions.
"""

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from discord_double.double import DiscordDouble
from discord_double.instances import Instances
from discord_double.payloads import Json
from postgres_server import PrivateServer, libpq_url
from understudy.rehearsal.server import RehearsalServer

CHANNELS = 6
NAMES = ("one", "two", "three")
_FREEZE_S = 13.0
"""Longer than the lease of a role."""
_CONFIG = """\
model:
  provider_order: [a]
  servers:
    a: {{engine: openai, base_url: "{model}"}}
web: {{enabled: false}}
storage: {{url: "{url}"}}
logging: {{format: json}}
conversation: {{quiet_seconds: 0.2, parallel_replies: 1}}
participation: {{user_per_minute: 100000, channel_per_minute: 100000}}
discord: {{catch_up_messages: 100, catch_up_minutes: 60}}
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as Discord shows it."""

    channel: str
    answers: str
    """The question's message id."""


@dataclass(frozen=True, slots=True)
class Verdict:
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    disordered: tuple[str, ...]
    """Questions that were answered before an earlier one of their channel."""

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.disordered)


def judge(asked: Sequence[str], replies: Sequence[Reply]) -> Verdict:
    """`asked` in the order of the questions, `replies` in the order of their first message."""
    counts = Counter(reply.answers for reply in replies)
    place = {question: number for number, question in enumerate(asked)}
    latest: dict[str, int] = {}
    disordered = []
    for reply in replies:
        number = place.get(reply.answers, -1)
        if number < latest.get(reply.channel, -1):
            disordered.append(reply.answers)
        latest[reply.channel] = max(number, latest.get(reply.channel, -1))
    return Verdict(
        tuple(question for question in asked if counts[question] == 0),
        tuple(question for question, count in counts.items() if count > 1),
        tuple(disordered),
    )


@dataclass(slots=True)
class Cluster:
    instances: Instances
    database: PrivateServer
    double: DiscordDouble
    chance: random.Random
    done: Counter[str]

    async def fail(self) -> None:
        """One fault, and what repairs it."""
        kinds = (self.kill_owner, self.kill_standby, self.freeze, self.cut_off, self.restart)
        kind = self.chance.choices(kinds, weights=(3, 2, 2, 2, 2))[0]
        self.done[kind.__name__] += 1
        await kind()

    async def kill_owner(self) -> None:
        await self._kill(self.instances.owner() or NAMES[0])

    async def kill_standby(self) -> None:
        owner = self.instances.owner()
        await self._kill(self.chance.choice([name for name in NAMES if name != owner]))

    async def freeze(self) -> None:
        process = self.instances.processes[self.instances.owner() or NAMES[0]]
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(_FREEZE_S)
        process.send_signal(signal.SIGCONT)

    async def cut_off(self) -> None:
        await asyncio.to_thread(self._terminate_backends)

    async def restart(self) -> None:
        await asyncio.to_thread(self.database.stop)
        await asyncio.to_thread(self.database.start)

    async def _kill(self, name: str) -> None:
        await self.instances.kill(name)
        await self.instances.start(name)

    def _terminate_backends(self) -> None:
        with (
            suppress(psycopg.Error),
            psycopg.connect(libpq_url(self.database.url), autocommit=True) as connection,
        ):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )


def replies_of(double: DiscordDouble) -> list[Reply]:
    """In the order in which they were first sent."""
    sent = sorted(double.sent(), key=lambda message: int(message["id"]))
    return [
        Reply(message["channel_id"], message["message_reference"]["message_id"])
        for message in sent
        if message.get("message_reference")
    ]


async def _ask(
    double: DiscordDouble, chance: random.Random, count: int, over_s: float
) -> list[Json]:
    guild = double.state.add_guild()
    channels = [double.state.add_channel(guild, f"room-{n}") for n in range(CHANNELS)]
    asked = []
    for number in range(count):
        person = double.state.add_user(f"person-{number}")
        asked.append(
            await double.say(channels[number % CHANNELS], person, double.mention(f"q{number}"))
        )
        if number < CHANNELS:
            # Catching up starts in channels that were read before.
            await double.until(lambda: len(replies_of(double)) == number + 1, 60)  # noqa: B023
        await asyncio.sleep(chance.uniform(0, 2 * over_s / count))
    return asked


async def run(messages: int, faults: int, seed: int, folder: Path) -> tuple[Verdict, Counter[str]]:
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        database = await asyncio.to_thread(PrivateServer)
        stack.push_async_callback(asyncio.to_thread, database.close)
        model = await stack.enter_async_context(RehearsalServer("say:hello"))
        double = await stack.enter_async_context(DiscordDouble())
        (folder / "config.yaml").write_text(_CONFIG.format(model=model.base_url, url=database.url))
        instances = Instances(folder, double)
        stack.push_async_callback(instances.aclose)
        for name in NAMES:
            await instances.start(name)
        await double.ready()
        cluster = Cluster(instances, database, double, chance, Counter())
        asking = asyncio.create_task(_ask(double, chance, messages, over_s=6.0 * faults))
        await double.until(lambda: len(replies_of(double)) >= min(CHANNELS, messages), 120)
        for _ in range(faults):
            await cluster.fail()
            await asyncio.sleep(chance.uniform(0.5, 3.0))
        asked = [message["id"] for message in await asking]
        with suppress(TimeoutError):
            await double.until(lambda: not judge(asked, replies_of(double)).lost, 180)
        return judge(asked, replies_of(double)), cluster.done


def main(messages: int, faults: int, seed: int) -> int:
    folder, began = Path(tempfile.mkdtemp(prefix="chaos-cluster-")), time.monotonic()
    verdict, done = asyncio.run(run(messages, faults, seed, folder))
    print(  # noqa: T201 - the figures are the result
        f"{messages} messages, {sum(done.values())} faults ({dict(done)}), seed {seed}: "
        f"{len(verdict.lost)} lost, {len(verdict.doubled)} doubled, "
        f"{len(verdict.disordered)} out of order, {time.monotonic() - began:.0f} s"
    )
    if not verdict.ok:
        print(f"{verdict}\nlogs: {folder}")  # noqa: T201
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:4])))
