"""Three instances on one PostgreSQL and one Discord token, while processes and connections fail.

`python -m chaos.cluster MESSAGES FAULTS SEED`, or `make chaos-cluster`. Questions come in several
channels of Discord, a tenth of them on the page, while instances are killed, stopped for longer
than a role's lease, cut off from the database, and the database is restarted. At the end every
question has one reply, and the replies of a channel are in the order of its questions; a gateway
key got no more answers than its limit at all instances together; and a model server that fails
was left out by all of them.
"""

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psycopg

from chaos.cluster_clients import (
    KEY,
    KEY_REQUESTS_PER_FAULT,
    DeadServer,
    KeyHolder,
    Visitors,
    free_port,
)
from chaos.cluster_judge import Reply, Verdict, judge, wrong_calls, wrong_quota
from discord_double.double import DiscordDouble
from discord_double.instances import Instances
from discord_double.payloads import Json
from postgres_server import PrivateServer, libpq_url
from understudy.rehearsal.server import RehearsalServer

CHANNELS = 6
NAMES = ("one", "two", "three")
_FREEZE_S = 13.0
"""Longer than the lease of a role."""
_VISITORS = 5
_PAGE_SHARE = 10
_CONFIG = """\
model:
  provider_order: [dead, a]
  servers:
    dead: {{engine: openai, base_url: "{dead}"}}
    a: {{engine: openai, base_url: "{model}"}}
web: {{port: {web}}}
gateway:
  enabled: true
  port: {gateway}
  keys: [{{name: limited, key: "{key}", requests_per_day: {key_requests}}}]
storage: {{url: "{url}"}}
logging: {{format: json}}
conversation: {{quiet_seconds: 0.2, parallel_replies: 1}}
participation: {{user_per_minute: 100000, channel_per_minute: 100000}}
discord: {{catch_up_messages: 1000, catch_up_minutes: 60}}
"""


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
            await double.until(lambda: len(replies_of(double)) == number + 1)  # noqa: B023
        await asyncio.sleep(chance.uniform(0, 2 * over_s / count))
    return asked


async def run(messages: int, faults: int, seed: int, folder: Path) -> tuple[Verdict, str]:
    """The verdict, and the figures of the run."""
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        database = await asyncio.to_thread(PrivateServer)
        stack.push_async_callback(asyncio.to_thread, database.close)
        model = await stack.enter_async_context(RehearsalServer("say:hello"))
        dead = await stack.enter_async_context(DeadServer())
        double = await stack.enter_async_context(DiscordDouble())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        pages, gateways, key_requests = [], [], KEY_REQUESTS_PER_FAULT * faults
        for name in NAMES:
            ports = {"web": free_port(), "gateway": free_port()}
            pages.append(f"http://127.0.0.1:{ports['web']}")
            gateways.append(f"http://127.0.0.1:{ports['gateway']}")
            text = _CONFIG.format(
                model=model.base_url,
                dead=dead.base_url,
                url=database.url,
                key=KEY,
                key_requests=key_requests,
                **ports,
            )
            (folder / f"{name}.yaml").write_text(text)
        instances = Instances(folder, double)
        stack.push_async_callback(instances.aclose)
        for name in NAMES:
            await instances.start(name)
        await double.ready()
        cluster = Cluster(instances, database, double, chance, Counter())
        visitors = Visitors(pages, http, random.Random(seed))
        holder = KeyHolder(gateways, http, random.Random(seed))
        over_s, on_page = 6.0 * faults, messages // _PAGE_SHARE
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_ask(double, chance, messages - on_page, over_s))
            await double.until(lambda: len(replies_of(double)) >= min(CHANNELS, messages))
            visiting = group.create_task(visitors.ask_all(_VISITORS, on_page))
            using = group.create_task(holder.run(over_s / key_requests / 2))
            for _ in range(faults):
                await cluster.fail()
                await asyncio.sleep(chance.uniform(0.5, 3.0))
            asked = [message["id"] for message in await asking]
            await visiting
            using.cancel()
        with suppress(TimeoutError):
            await double.until(lambda: not judge(asked, replies_of(double)).lost)
        wrong = [
            *wrong_quota(holder.answered, holder.refused, key_requests),
            *wrong_calls(dead.calls, len(NAMES)),
        ]
        replies = [*replies_of(double), *await visitors.replies()]
        figures = (
            f"{len(asked)} messages on Discord, {len(visitors.asked)} on the page, "
            f"{cluster.done.total()} faults ({dict(cluster.done)}); "
            f"key: {holder.answered} answers, {holder.refused} refusals; "
            f"dead server: {len(dead.calls)} calls"
        )
        return judge([*asked, *visitors.asked], replies, wrong), figures


def main(messages: int, faults: int, seed: int) -> int:
    folder, began = Path(tempfile.mkdtemp(prefix="chaos-cluster-")), time.monotonic()
    verdict, figures = asyncio.run(run(messages, faults, seed, folder))
    print(  # noqa: T201 - the figures are the result
        f"{figures}, seed {seed}: {len(verdict.lost)} lost, {len(verdict.doubled)} doubled, "
        f"{len(verdict.disordered)} out of order, {len(verdict.wrong)} limits exceeded, "
        f"{time.monotonic() - began:.0f} s"
    )
    if not verdict.ok:
        print(f"{verdict}\nlogs: {folder}")  # noqa: T201
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:4])))
