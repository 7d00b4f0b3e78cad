"""The bot's process: configured, started, killed, stopped."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random

from chaos.clock import JumpingClock
from chaos.ledger_check import pages
from chaos.servers import LAST, REAL
from discord_double.double import DiscordDouble

OFFLINE_TEXT = "(no model is available)"
"""The text of every offline message, to tell it from an answer."""
_TESTS = Path(__file__).parents[1]
_PROGRAM = Path(__file__).with_name("whole_bot.py")
_MEMORY_MB = 2048
_SPARE_PAGES = 4096
_STOP_S = 60.0
_REASONS = (
    "all_rate_limited", "all_down", "deadline", "no_capable", "rejected", "config", "budget",
    "busy", "too_long",
)  # fmt: skip


class BotProcess:
    def __init__(
        self, double: DiscordDouble, clock: JumpingClock, servers: Mapping[str, str], folder: Path
    ) -> None:
        self.double = double
        self.clock = clock
        self.config = folder / "config.yaml"
        self.database = folder / "bot.db"
        self.log = folder / "bot.log"
        self.leftovers = folder / "leftovers.json"
        self.up = folder / "up"
        self.most_pages = 0
        """What the database may grow to before its disk is full."""
        self.peak_mb = 0
        self._servers = servers
        self._process: asyncio.subprocess.Process | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def configure(self, chance: Random) -> None:
        """Write a random server order; the most reliable server is always last."""
        first = [name for name in self._servers if name != LAST]
        chance.shuffle(first)
        servers = {
            name: {"base_url": url, "timeout_seconds": 2, "idle_timeout_seconds": 2}
            | ({"engine": "llama.cpp", "max_tokens": 24} if name == REAL else {})
            for name, url in self._servers.items()
        }
        options = {
            "model": {
                "provider_order": [*first, LAST],
                "servers": servers,
                "openrouter": {"enabled": False},
                "on_content_policy": "next",
            },
            "storage": {"url": f"sqlite:///{self.database}"},
            "web": {"enabled": False},
            "conversation": {"quiet_seconds": 0.05, "late_answer_minutes": 55},
            "participation": {"user_per_minute": 100_000, "channel_per_minute": 100_000},
            "discord": {
                "edit_interval_seconds": 0.5,
                "first_edit_seconds": 0.2,
                "first_edit_chars": 60,
                "catch_up_messages": 100,
                "catch_up_minutes": 60,
            },
            "offline": dict.fromkeys(_REASONS, OFFLINE_TEXT),
        }
        # JSON is YAML too. Replaced in one step, as an editor does it.
        fresh = self.config.with_suffix(".new")
        fresh.write_text(json.dumps(options))
        fresh.replace(self.config)

    async def start(self) -> None:
        self.up.unlink(missing_ok=True)
        self.most_pages = (pages(self.database) if self.database.exists() else 0) + _SPARE_PAGES
        options = {
            "api": self.double.api_url,
            "gateway": self.double.gateway_url,
            "config": str(self.config),
            "clock": str(self.clock.path),
            "most_pages": self.most_pages,
            "memory_mb": _MEMORY_MB,
            "up": str(self.up),
            "leftovers": str(self.leftovers),
        }
        paths = os.pathsep.join([str(_TESTS), str(_TESTS.parent / "src")])
        with self.log.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(_PROGRAM),
                json.dumps(options),
                env={**os.environ, "PYTHONPATH": paths, "DISCORD_TOKEN": self.double.token},
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Kill at once; `gone` waits for the end."""
        if self._process is not None and self._process.returncode is None:
            self._note_memory()
            self._process.kill()

    async def gone(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> list[str]:
        """Stop it once it is up; returns what went wrong."""
        assert self._process is not None
        await self.double.until(self.up.exists, _STOP_S)
        self._note_memory()
        self.leftovers.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(self._process.wait(), _STOP_S)
        if code != 0 or not self.leftovers.exists():
            return [f"the bot stopped with exit code {code}"]
        left = json.loads(self.leftovers.read_text())
        return [f"left at the end: {kind} {what}" for kind, what in left.items() if what]

    async def aclose(self) -> None:
        if self.alive:
            self.kill()
            await self.gone()

    def _note_memory(self) -> None:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (kilobytes,) = (line.split()[1] for line in status.splitlines() if "VmHWM" in line)
        self.peak_mb = max(self.peak_mb, int(kilobytes) // 1024)
