"""A picture on Discord, all the way to a genuine llama.cpp server that sees."""

import io
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from llama_server import llama_server
from tiny_model import make_tiny_model
from tiny_projector import make_tiny_projector
from understudy.app.bot import Bot
from understudy.app.run import running
from understudy.config.load import parse_config
from understudy.config.settings import Logging
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer
from understudy.routing.records import AttemptRecord, Outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("model")
    model = make_tiny_model(folder / "tiny.gguf")
    with llama_server(model, projector=make_tiny_projector(folder / "eyes.gguf")) as base_url:
        yield base_url


@asynccontextmanager
async def bot_with(
    servers: dict[str, dict[str, object]], double: DiscordDouble, folder: Path
) -> AsyncIterator[Bot]:
    config = {
        "model": {"provider_order": list(servers), "servers": servers},
        "vision": {"enabled": True, "allow_hosts": ["127.0.0.1"], "caption": False},
        "web": {"enabled": False},
        "storage": {"url": f"sqlite:///{folder}/understudy.db"},
    }
    loaded = parse_config(json.dumps(config), {"DISCORD_TOKEN": double.token})
    async with running(loaded, Logs(Logging(level="error"), sys.stderr)) as everything:
        await double.ready()
        yield everything.bot


def picture(double: DiscordDouble, channel: Json) -> Json:
    out = io.BytesIO()
    Image.new("RGB", (300, 200), "teal").save(out, "PNG")
    return double.state.keep_file(channel["id"], "sea.png", out.getvalue(), "image/png")


async def winner(bot: Bot, double: DiscordDouble, asked: Json) -> AttemptRecord:
    """Who answered `asked`, once the ledger knows."""
    await double.until(lambda: double.answers_to(asked))
    answer = double.answers_to(asked)[0]
    reply_id = await bot.messages.store.reply_at("discord", answer["id"])
    while reply_id is None:
        reply_id = await bot.messages.store.reply_at("discord", answer["id"])
    assert bot.ledger is not None
    runs = await bot.ledger.reply(reply_id)
    return next(a for a in runs[-1].attempts if a.outcome is Outcome.OK)


async def test_a_picture_goes_to_the_server_that_sees_and_talk_goes_on_with_the_first(
    seeing: str, double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    async with RehearsalServer("ok") as blind:
        servers: dict[str, dict[str, object]] = {
            "blind": {"engine": "openai", "base_url": blind.base_url, "vision": False},
            "eyes": {"engine": "llama.cpp", "base_url": seeing, "max_tokens": 20},
        }
        async with bot_with(servers, double, tmp_path) as bot:
            talk = await double.say(channel, ann, double.mention("hello"))
            before = await winner(bot, double, talk)
            shown = await double.say(
                channel, ann, double.mention("what is this"), attachments=[picture(double, channel)]
            )
            saw = await winner(bot, double, shown)
            more = await double.say(channel, ann, double.mention("and you?"))
            after = await winner(bot, double, more)

        assert [a.provider for a in (before, saw, after)] == ["blind", "eyes", "blind"]
        assert (before.images, saw.images, after.images) == (0, 1, 0)
        assert saw.usage is not None
        # The projector makes four tokens of an image; the words before it cost the rest.
        assert saw.usage.input_tokens > 4
        body = json.dumps(blind.last_body)
        assert "image_url" not in body
        assert "sea.png" in body
