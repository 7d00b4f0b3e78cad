"""The bot as `understudy run` composes it, on the double of Discord and a stand-in model server."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from understudy.app.run import running
from understudy.config.load import Config, parse_config
from understudy.errors import ConfigError
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer

pytestmark = pytest.mark.slow


def config(folder: Path, base_url: str, token: str, admin: str = "1") -> Config:
    text = f"""\
model: {{provider_order: [a], servers: {{a: {{base_url: "{base_url}"}}}}}}
storage: {{url: "sqlite:///{folder}/bot.db"}}
persona: {{folder: "{folder}"}}
web: {{enabled: false}}
discord: {{admins: ["{admin}"]}}
"""
    return parse_config(text, {"DISCORD_TOKEN": token})


async def test_a_mention_is_answered_by_the_configured_server(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    async with RehearsalServer("say:from a") as server:
        made = config(tmp_path, server.base_url, double.token)
        async with running(made, Logs(made.settings.logging, io.StringIO())):
            await double.until(lambda: double.gateway.sessions)
            asked = await double.say(channel, ann, double.mention("hello"))
            await double.until(lambda: [m["content"] for m in double.answers_to(asked)])

            assert [m["content"] for m in double.answers_to(asked)] == ["from a"]


async def test_a_refused_token_ends_with_what_to_do(double: DiscordDouble, tmp_path: Path) -> None:
    made = config(tmp_path, "http://127.0.0.1:9", "not-the-token")
    async with running(made, Logs(made.settings.logging, io.StringIO())) as everything:
        assert everything.discord is not None

        with pytest.raises(ConfigError, match="Discord refused the bot token"):
            await everything.discord


async def test_a_refused_key_is_told_to_the_admin(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    boss = double.state.add_user("boss")
    async with RehearsalServer("e401") as server:
        made = config(tmp_path, server.base_url, double.token, boss["id"])
        async with running(made, Logs(made.settings.logging, io.StringIO())):
            await double.until(lambda: double.gateway.sessions)
            await double.say(channel, ann, double.mention("hello"))
            dm = double.state.dm_with(boss)
            (text,) = await double.until(lambda: double.sent(dm))

    assert "refuses the key" in text["content"]


async def test_privacy_tells_how_long_pictures_are_kept_where_they_are_looked_at(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    made = config(tmp_path, "http://127.0.0.1:9", double.token)
    seeing = made.settings.vision.model_copy(update={"enabled": True, "keep_days": 3})
    made = replace(made, settings=made.settings.model_copy(update={"vision": seeing}))
    async with running(made, Logs(made.settings.logging, io.StringIO())):
        await double.until(lambda: double.gateway.sessions)
        exchange = await double.slash(channel, ann, "privacy")
        await double.until(lambda: exchange.text)

    assert "store them for 30 days" in exchange.text
    assert "for 3 days" in exchange.text
