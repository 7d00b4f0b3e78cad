"""Several instances of the bot as processes, with one token on the double of Discord."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from discord_double.double import DiscordDouble

_PROGRAM = Path(__file__).with_name("instance_process.py")


class Instances:
    """The log of each process shows which one is connected.

    An instance reads the configuration with its name, or else `config.yaml`.
    """

    def __init__(self, folder: Path, double: DiscordDouble, *, workers: int = 1) -> None:
        self.folder = folder
        self.double = double
        self.workers = workers
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str) -> None:
        """Start an instance, and wait until it runs."""
        up = self.folder / f"{name}.up"
        up.unlink(missing_ok=True)
        own = self.folder / f"{name}.yaml"
        config = own if own.exists() else self.folder / "config.yaml"
        options = {
            "api": self.double.api_url,
            "gateway": self.double.gateway_url,
            "config": str(config),
            "up": str(up),
            "workers": self.workers,
        }
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, str(_PROGRAM), json.dumps(options)),
                cwd=self.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "DISCORD_TOKEN": self.double.token,
                },
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        await self.double.until(up.exists, 240)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def owns(self, name: str) -> bool:
        """Whether the current process of this name has the token, as far as its log says."""
        text = self.log(name).rpartition("process.started")[2]
        return text.count("role.acquired") > text.count("role.lost")

    def owner(self) -> str | None:
        return next((name for name in self.processes if self.owns(name)), None)

    async def kill(self, name: str) -> None:
        self.processes[name].kill()
        await self.processes[name].wait()
        with (self.folder / f"{name}.log").open("a") as log:
            log.write('"event":"process.started"\n')

    async def aclose(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()
        # The transports close their pipes in the next turn of the loop.
        await asyncio.sleep(0)
