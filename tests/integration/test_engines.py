"""One provider after another behind the same door, and a change of mind while the bot runs."""

import asyncio
import json
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from command import understudy
from playback import Recording, playing, recordings_of
from reply_events import reply_events
from understudy.app.bot import Bot, open_bot_without_history
from understudy.app.reload import watching_for_changes
from understudy.config.load import load_config
from understudy.config.settings import Logging
from understudy.llm.messages import ChatRequest, Message, TextPart
from understudy.observability.logs import Logs
from understudy.routing.request import Prompt, ReplyEnded, ReplyRequest, SinkKind
from waiting import LIMIT_S

KEY = {"OPENROUTER_API_KEY": "sk-test-0123456789"}
HEARD = {
    "openrouter": ("reply", "Hi"),
    "koboldcpp": ("reply", "of her warm"),
    "llama.cpp": ("reply", "of can warm"),
    "textgen-webui": ("reply", "Hello there"),
}


def recordings(engine: str) -> dict[str, Recording]:
    return recordings_of(engine, (HEARD[engine][0],))


def configure(folder: Path, model: dict[str, object]) -> None:
    (folder / "config.yaml").write_text(json.dumps({"model": model}))


async def ask(folder: Path) -> dict[str, object]:
    done = await asyncio.to_thread(
        understudy, "ask", "Say something", "--json", folder=folder, env=KEY
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


async def test_openrouter_alone_answers(tmp_path: Path) -> None:
    async with playing(recordings("openrouter")) as server:
        openrouter = {"base_url": server.url, "name": "a/b"}
        configure(tmp_path, {"provider_order": ["openrouter"], "openrouter": openrouter})
        answer = await ask(tmp_path)

    assert (answer["provider"], answer["reply"]) == ("openrouter", "Hi")


@pytest.mark.parametrize("engine", ["koboldcpp", "llama.cpp", "textgen-webui"])
async def test_each_engine_at_home_alone_answers(tmp_path: Path, engine: str) -> None:
    async with playing(recordings(engine)) as server:
        local = {"enabled": True, "engine": engine, "base_url": server.url}
        configure(tmp_path, {"provider_order": ["local"], "local": local})
        answer = await ask(tmp_path)

    assert answer["provider"] == "local"
    assert str(answer["reply"]).strip().startswith(HEARD[engine][1])


async def test_the_usual_order_goes_on_to_the_engine_at_home(tmp_path: Path) -> None:
    limited = recordings_of("openrouter", ("free_limit",))
    async with playing(limited) as hosted, playing(recordings("koboldcpp")) as home:
        configure(
            tmp_path,
            {
                "provider_order": ["openrouter", "local", "auto"],
                "openrouter": {
                    "name": "meta-llama/llama-4-scout:free",
                    "fallbacks": "meta-llama/llama-3.3-8b-instruct:free",
                    "allow_auto_fallback": True,
                    "base_url": hosted.url,
                },
                "local": {"enabled": True, "engine": "koboldcpp", "base_url": home.url},
            },
        )
        answer = await ask(tmp_path)
        hosted_chats = [asked for asked in hosted.asked if asked.line.startswith("POST")]

    assert answer["provider"] == "local"
    assert len(hosted_chats) == 1  # its daily limit holds all free models of the key


async def test_an_edit_of_the_file_switches_engines_while_the_bot_runs(tmp_path: Path) -> None:
    async with playing(recordings("koboldcpp")) as first, playing(recordings("llama.cpp")) as then:
        configure(tmp_path, at_home("koboldcpp", first.url))
        config = load_config(tmp_path / "config.yaml", {})
        logs = Logs(Logging(level="error"), sys.stderr)
        async with open_bot_without_history(config, logs) as bot, watching_for_changes(bot):
            before = await reply(bot)
            configure(tmp_path, at_home("llama.cpp", then.url))
            async with asyncio.timeout(LIMIT_S):
                while bot.config.rev == config.rev:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.05)
            after = await reply(bot)

    assert before.text.strip().startswith(HEARD["koboldcpp"][1])
    assert after.text.strip().startswith(HEARD["llama.cpp"][1])


def at_home(engine: str, url: str) -> dict[str, object]:
    local = {"enabled": True, "engine": engine, "base_url": url}
    return {"provider_order": ["local"], "local": local}


async def reply(bot: Bot) -> ReplyEnded:
    asked = ChatRequest((Message("user", (TextPart("Say something"),)),))
    wanted = ReplyRequest("r1", "terminal", build=lambda _fit: Prompt(asked, 4))
    async with aclosing(reply_events(bot.models.reply, wanted, SinkKind.HELD)) as events:
        ends = [event async for event in events if isinstance(event, ReplyEnded)]
    return ends[-1]
