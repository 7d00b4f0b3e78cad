"""The program under attack: configured, started with limits, watched, stopped with SIGTERM."""

import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = "operator-token-of-the-attack-suite"
_MEMORY_BYTES = 3_000_000_000
"""Address space of each process of the program: an attack must not take the machine."""
_START_S = 60.0
_STOP_S = 60.0


@dataclass(slots=True)
class Program:
    """A running `understudy run`."""

    process: subprocess.Popen[bytes]
    folder: Path
    page: str
    gateway: str
    watcher: subprocess.Popen[str]
    figures: dict[str, float] = field(default_factory=dict)

    def stop(self) -> None:
        """SIGTERM; notes how long it took, and what the watcher saw."""
        assert self.watcher.stdin is not None
        self.watcher.stdin.write("quiet\n")
        self.watcher.stdin.flush()
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        else:
            self.figures["died"] = 1
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.figures["stop_s"] = round(time.monotonic() - began, 2)
        seen, _ = self.watcher.communicate(timeout=_STOP_S)
        self.figures.update(json.loads(seen))


def free_port() -> int:
    """Below the ports that the system gives to clients: one of those can connect to itself."""
    for port in random.sample(range(20_000, 32_000), 100):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("no port is free")


def settings(page: int, gateway: int, servers: Mapping[str, object]) -> dict[str, object]:
    return {
        "model": {
            "provider_order": list(servers),
            "servers": dict(servers),
            "openrouter": {"enabled": False},
        },
        "storage": {"url": "sqlite:///data/bot.db"},
        "web": {"port": page},
        "gateway": {"enabled": True, "port": gateway},
        "vision": {"enabled": True, "caption": False},
        "participation": {"user_per_minute": 1000, "channel_per_minute": 1000},
        "conversation": {"quiet_seconds": 0.05},
    }


def merged(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        result[key] = merged(inner, value) if both else value  # type: ignore[arg-type]
    return result


def _limit(files: int | None) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    if files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def start(
    folder: Path,
    config: Mapping[str, object],
    *,
    stderr: int | None = None,
    files: int | None = None,
) -> Program:
    """Start it in `folder` and wait for its health page."""
    web, gateway = config["web"], config["gateway"]
    assert isinstance(web, Mapping)
    assert isinstance(gateway, Mapping)
    (folder / "data").mkdir(exist_ok=True)
    # JSON is YAML too.
    (folder / "config.yaml").write_text(json.dumps(config))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    with (folder / "stderr.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "understudy", "run", "--config", "config.yaml"],
            cwd=folder,
            env={**kept, "PYTHONUTF8": "1", "UNDERSTUDY_WEB_TOKEN": TOKEN},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log if stderr is None else stderr,
            preexec_fn=lambda: _limit(files),  # noqa: PLW1509 - no threads run yet
        )
    page = f"http://127.0.0.1:{web['port']}"
    _wait_for(process, int(web["port"]), folder)
    _wait_for(process, int(gateway["port"]), folder)
    watcher = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("watch.py")), str(process.pid), page],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watcher.stdout is not None
    watcher.stdout.readline()
    return Program(process, folder, page, f"http://127.0.0.1:{gateway['port']}", watcher)


def _wait_for(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    process.kill()
    process.wait()
    said = (folder / "stderr.txt").read_text()
    raise RuntimeError(f"the program did not start: {re.sub(TOKEN, '***', said)[-500:]}")


@contextmanager
def running(
    folder: Path,
    config: Mapping[str, object],
    *,
    stderr: int | None = None,
    files: int | None = None,
) -> Iterator[Program]:
    """Ends with the program gone; its figures are complete after that."""
    program = start(folder, config, stderr=stderr, files=files)
    try:
        yield program
    finally:
        if program.process.poll() is None and "stop_s" not in program.figures:
            program.process.kill()
            program.process.wait()
        if program.watcher.poll() is None:
            program.watcher.kill()
            program.watcher.wait()
