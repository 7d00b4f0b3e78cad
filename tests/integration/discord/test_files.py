"""Text files on Discord, read through the whole bot."""

import json
import sys
from pathlib import Path

import pytest

from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from pdf_files import pdf_of
from understudy.app.run import running
from understudy.config.load import parse_config
from understudy.config.settings import Logging
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer

pytestmark = pytest.mark.slow


def keep(double: DiscordDouble, channel: Json, name: str, data: bytes) -> Json:
    return double.state.keep_file(channel["id"], name, data, "text/plain; charset=utf-8")


async def test_attached_files_reach_the_model_and_later_only_their_beginning(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    long = "first words " + "and so on, " * 200 + "last words"
    async with RehearsalServer("say:well") as server:
        entry = {"engine": "openai", "base_url": server.base_url}
        config = {
            "model": {"provider_order": ["a"], "servers": {"a": entry}},
            "vision": {"allow_hosts": ["127.0.0.1"]},
            "web": {"enabled": False},
            "storage": {"url": f"sqlite:///{tmp_path}/understudy.db"},
        }
        loaded = parse_config(json.dumps(config), {"DISCORD_TOKEN": double.token})
        async with running(loaded, Logs(Logging(level="error"), sys.stderr)):
            await double.ready()
            asked = await double.say(
                channel,
                ann,
                double.mention("what is in these?"),
                attachments=[
                    keep(double, channel, "message.txt", long.encode()),
                    keep(double, channel, "page.pdf", pdf_of("printed words")),
                    keep(double, channel, "song.bin", bytes(500)),
                ],
            )
            await double.until(lambda: double.answers_to(asked))
            first = json.dumps(server.last_body, ensure_ascii=False)
            again = await double.say(channel, ann, double.mention("and now?"))
            await double.until(lambda: double.answers_to(again))
            second = json.dumps(server.last_body, ensure_ascii=False)

    assert "last words" in first
    assert "printed words" in first
    assert "[attachment: song.bin]" in first
    assert "its beginning: first words" in second
    assert "last words" not in second


async def test_a_voice_message_reaches_the_model_as_its_words(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    async with RehearsalServer("say:well") as server:
        entry = {"engine": "openai", "base_url": server.base_url}
        config = {
            "model": {"provider_order": ["a"], "servers": {"a": entry}},
            "speech": {"order": ["a"]},
            "vision": {"allow_hosts": ["127.0.0.1"]},
            "web": {"enabled": False},
            "storage": {"url": f"sqlite:///{tmp_path}/understudy.db"},
        }
        loaded = parse_config(json.dumps(config), {"DISCORD_TOKEN": double.token})
        async with running(loaded, Logs(Logging(level="error"), sys.stderr)):
            await double.ready()
            kept = double.state.keep_file(
                channel["id"], "voice-message.ogg", b"OggS recording", "audio/ogg"
            )
            voice = kept | {"duration_secs": 2.5, "waveform": "AAAA"}
            dm = double.state.dm_with(ann)
            asked = await double.say(dm, ann, "", attachments=[voice])
            await double.until(lambda: double.answers_to(asked))
            heard = json.dumps(server.last_body, ensure_ascii=False)

    assert server.recordings == [b"OggS recording"]
    assert "[voice message, transcribed by a program: The rehearsal can be heard.]" in heard
