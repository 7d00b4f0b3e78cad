"""A Discord token is checked before it is written."""

from pathlib import Path

import pytest

from playback import Recording, playing
from understudy.app.setup.files import SetupAnswers, plan, read_files
from understudy.cli.setup_dialogue import SetupDialogue, SetupFlags
from understudy.errors import ConfigError

LINE = "GET /oauth2/applications/@me"
TOKEN = "token-of-a-bot"


async def answers(folder: Path, status: int, body: str) -> SetupAnswers:
    files = read_files(folder / "config.yaml", {})
    recording = Recording("", LINE, status, {"content-type": "application/json"}, [body])
    async with playing({LINE: recording}) as discord:
        flags = SetupFlags(discord_token=TOKEN, discord_api=discord.url, ports=(9,))
        return await SetupDialogue(files, flags, asks=False).run()


async def test_a_token_whose_bot_reads_messages_is_written_with_its_invite_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await answers(tmp_path, 200, '{"id": "42", "name": "Bot", "flags": 524288}')

    planned = plan(read_files(tmp_path / "config.yaml", {}), found)
    shown = capsys.readouterr().out
    assert "The token works: Bot." in shown
    assert "client_id=42" in shown
    assert f"DISCORD_TOKEN={TOKEN}\n" in (planned.env_text or "")
    assert TOKEN not in planned.describe()
    assert "message_content" not in (planned.config_text or "")


async def test_without_the_intent_the_bot_is_set_to_read_mentions_only(tmp_path: Path) -> None:
    found = await answers(tmp_path, 200, '{"id": "42", "flags": 0}')

    planned = plan(read_files(tmp_path / "config.yaml", {}), found)
    assert "message_content: false" in (planned.config_text or "")


async def test_a_refused_token_ends_the_setup(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Nothing was written"):
        await answers(tmp_path, 401, "{}")


async def test_a_token_that_cannot_be_tested_is_written_all_the_same(tmp_path: Path) -> None:
    found = await answers(tmp_path, 500, "oh")

    assert found.discord_token == TOKEN
