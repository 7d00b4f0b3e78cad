"""`/model` on Discord, through the whole bot."""

import json
import sys
from pathlib import Path

import pytest

from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from understudy.app.run import running
from understudy.config.load import parse_config
from understudy.config.settings import Logging
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer

pytestmark = pytest.mark.slow


def option(sub: str, **values: str) -> Json:
    given = [{"name": name, "type": 3, "value": value} for name, value in values.items()]
    return {"name": sub, "type": 1, "options": given}


async def said(double: DiscordDouble, channel: Json, person: Json, *command: object) -> str:
    exchange = await double.slash(channel, person, *command)  # type: ignore[arg-type]
    await double.until(lambda: exchange.answers)
    return exchange.text


async def test_a_channel_uses_the_order_that_was_chosen_and_why_names_that_of_the_reply(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    async with RehearsalServer("say:first") as first, RehearsalServer("say:second") as second:
        servers = {"one": {"base_url": first.base_url}, "two": {"base_url": second.base_url}}
        config = {
            "model": {"provider_order": ["one"], "orders": {"fast": ["two"]}, "servers": servers},
            "discord": {"admins": [ann["id"]]},
            "web": {"enabled": False},
            "storage": {"url": f"sqlite:///{tmp_path}/understudy.db"},
        }
        loaded = parse_config(json.dumps(config), {"DISCORD_TOKEN": double.token})
        async with running(loaded, Logs(Logging(level="error"), sys.stderr)):
            await double.ready()
            await double.until(lambda: double.state.commands.get("global"))
            unknown = await said(double, channel, ann, "model", option("set", name="slow"))
            done = await said(double, channel, ann, "model", option("set", name="fast"))
            asked = await double.say(channel, ann, double.mention("hello"))
            await double.until(lambda: double.answers_to(asked))
            # The reply is stored a moment after it is shown.
            while "no record" in (why := await said(double, channel, ann, "why")):
                pass
            cleared = await said(double, channel, ann, "model", option("clear"))
            older = await said(double, channel, ann, "why")
            again = await double.say(channel, ann, double.mention("hello again"))
            await double.until(lambda: double.answers_to(again))
            while (newer := await said(double, channel, ann, "why")) == older:
                pass

    assert unknown == "There is no order of that name. Available: fast, one, two."
    assert done == "Replies in this channel now come from fast."
    assert "Order: fast (chosen here)." in why
    assert older == why
    assert "Order" not in newer
    assert cleared == "Done. Order here: the usual one."
    assert (first.calls, second.calls) == (1, 1)
