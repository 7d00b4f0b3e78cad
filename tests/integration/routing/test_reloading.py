"""What must never end the watch over a bot's configuration."""

import asyncio
import io
from pathlib import Path

import structlog

from understudy.app.bot import open_bot_without_history
from understudy.app.models import ReloadableRouter
from understudy.app.reload import watching_for_changes
from understudy.config.load import Config, load_config
from understudy.config.settings import Logging
from understudy.observability.logs import Logs
from understudy.routing.environment import RouterEnvironment
from waiting import LIMIT_S

SERVER = "{engine: openai, base_url: 'http://127.0.0.1:9'}"


class Log(io.StringIO):
    """Tells when a line comes."""

    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()

    def write(self, text: str) -> int:
        self.came.set()
        return super().write(text)

    async def until(self, event: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            while event not in self.getvalue():
                self.came.clear()
                await self.came.wait()


class Stumbling(ReloadableRouter):
    """Has a bug that shows once."""

    stumbled = False

    def use(self, config: Config) -> None:
        if not self.stumbled:
            self.stumbled = True
            raise RuntimeError("a bug")
        super().use(config)


async def test_a_bug_while_a_change_is_taken_over_is_not_the_end_of_all_changes(
    tmp_path: Path,
) -> None:
    file, log = tmp_path / "config.yaml", Log()
    text = f"model: {{provider_order: [one], servers: {{one: {SERVER}, two: {SERVER}}}}}\n"
    file.write_text(text)
    config = load_config(file, {})
    try:
        async with open_bot_without_history(config, Logs(Logging(), log)) as bot:
            bot.models = Stumbling(config, RouterEnvironment())
            async with watching_for_changes(bot):
                file.write_text(text.replace("[one]", "[two]"))
                await log.until("config.reload_failed")
                assert bot.settings().model.provider_order == ("one",)
                file.write_text(text.replace("[one]", "[two, one]"))
                await log.until("config.reloaded")

            assert bot.settings().model.provider_order == ("two", "one")
            await bot.models.aclose()
    finally:
        structlog.reset_defaults()
