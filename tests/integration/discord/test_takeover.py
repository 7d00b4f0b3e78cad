"""Two instances with one token: one is connected, and the other takes over."""

import signal
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from discord_double.double import DiscordDouble, buttons_of
from discord_double.instances import Instances
from discord_double.payloads import Json
from postgres_server import new_database, shared_server
from understudy.rehearsal.server import RehearsalServer

pytestmark = pytest.mark.slow
_CONFIG = """\
model:
  provider_order: [a]
  servers:
    a: {{engine: openai, base_url: "{model}"}}
web: {{enabled: false}}
storage: {{url: "{url}"}}
logging: {{format: json}}
conversation: {{quiet_seconds: 0.2}}
"""


@pytest.fixture(params=["postgres", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bot.db'}"
        return
    with new_database(shared_server()) as created:
        yield created


@asynccontextmanager
async def two_instances(
    folder: Path, url: str, behaviour: str = "say:hello"
) -> AsyncGenerator[tuple[Instances, DiscordDouble]]:
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(RehearsalServer(behaviour))
        double = await stack.enter_async_context(DiscordDouble())
        (folder / "config.yaml").write_text(_CONFIG.format(model=model.base_url, url=url))
        instances = Instances(folder, double, workers=2 if url.startswith("sqlite") else 1)
        stack.push_async_callback(instances.aclose)
        await instances.start("one")
        await double.ready()
        await instances.start("two")
        yield instances, double


def answered(double: DiscordDouble, *messages: Json) -> bool:
    return all(answers(double)[message["id"]] for message in messages)


def answers(double: DiscordDouble) -> Counter[str]:
    references = (message.get("message_reference") for message in double.sent())
    return Counter(reference["message_id"] for reference in references if reference)


async def test_the_standby_takes_over_when_the_owner_is_killed(url: str, tmp_path: Path) -> None:
    async with two_instances(tmp_path, url) as (instances, double):
        guild = double.state.add_guild()
        room, ann = double.state.add_channel(guild, "room"), double.state.add_user("ann")
        before = await double.say(room, ann, double.mention("before"))
        await double.until(lambda: answered(double, before))
        assert (instances.owns("one"), instances.owns("two")) == (True, False)

        instances.processes["one"].kill()
        meanwhile = await double.say(room, ann, double.mention("meanwhile"))
        await double.until(lambda: instances.owns("two"))
        await double.until(lambda: answered(double, meanwhile))
        after = await double.say(room, ann, double.mention("after"))
        await double.until(lambda: answered(double, after))

        assert set(answers(double).values()) == {1}


async def test_a_frozen_owner_loses_the_role_and_stays_silent_afterwards(
    url: str, tmp_path: Path
) -> None:
    async with two_instances(tmp_path, url) as (instances, double):
        guild = double.state.add_guild()
        room, ann = double.state.add_channel(guild, "room"), double.state.add_user("ann")
        # Messages that arrive between two owners are caught up in channels that were read before.
        before = await double.say(room, ann, double.mention("before"))
        await double.until(lambda: answered(double, before))

        frozen = instances.processes["one"]
        frozen.send_signal(signal.SIGSTOP)
        await double.until(lambda: instances.owns("two"))
        frozen.send_signal(signal.SIGCONT)
        await double.until(lambda: "role.lost" in instances.log("one"))
        asked = await double.say(room, ann, double.mention("who is there?"))
        await double.until(lambda: answered(double, asked))

        assert instances.owns("two")
        assert set(answers(double).values()) == {1}


async def test_a_stopping_owner_hands_over_at_once(url: str, tmp_path: Path) -> None:
    async with two_instances(tmp_path, url) as (instances, double):
        instances.processes["one"].terminate()

        await double.until(lambda: instances.owns("two"))

        assert await instances.processes["one"].wait() == 0


async def test_stop_works_while_the_instance_that_writes_hangs(url: str, tmp_path: Path) -> None:
    async with two_instances(tmp_path, url, "slow:5") as (instances, double):
        guild = double.state.add_guild()
        room, ann = double.state.add_channel(guild, "room"), double.state.add_user("ann")
        asked = await double.say(room, ann, double.mention("a long story, please"))
        await double.until(lambda: len(_running(double)) == 1, 60)
        (writing,) = _running(double)

        frozen = instances.processes["one"]
        frozen.send_signal(signal.SIGSTOP)
        await double.until(lambda: "discord.ready" in instances.log("two"), 60)
        pressed = await double.press(writing, ann, "Stop")
        await double.until(lambda: pressed.deferred, 30)
        frozen.send_signal(signal.SIGCONT)
        await double.until(lambda: not _running(double), 60)

        # None where the instance that took over stopped it before its first text.
        assert answers(double)[asked["id"]] <= 1
        assert pressed.text == ""


def _running(double: DiscordDouble) -> list[Json]:
    """The replies that show a Stop button."""
    labels = {
        message["id"]: [b.get("label") for b in buttons_of(message)] for message in double.sent()
    }
    return [message for message in double.sent() if "Stop" in labels[message["id"]]]
