"""`understudy run --workers`: processes behind one port, and their supervisor."""

import os
import signal
import socket
import time
import urllib.error
from asyncio import to_thread as in_thread
from collections.abc import Callable
from pathlib import Path

import pytest

from bot_process import RunningBot, ask_gateway, running_bot
from command import understudy
from understudy.rehearsal.server import RehearsalServer
from waiting import LIMIT_S

CONFIG = """\
model:
  provider_order: [a]
  servers:
    a: {{engine: openai, base_url: "{a}"}}
web: {{enabled: false}}
logging: {{format: json}}
gateway: {{enabled: true, port: {port}}}
"""

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def pids(bot: RunningBot) -> list[int]:
    """Every worker that was started, in order."""
    import re

    started = re.findall(
        r'"event":"worker.started","worker":\d+,"pid":(\d+)', bot.stderr_file.read_text()
    )
    return [int(pid) for pid in started]


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def with_bot(folder: Path, check: Callable[[RunningBot, str], int]) -> int:
    port = free_port()
    async with RehearsalServer("say:hello") as server:
        (folder / "config.yaml").write_text(CONFIG.format(a=server.base_url, port=port))

        def run() -> int:
            with running_bot(folder, "--workers", "2") as bot:
                bot.until("2 workers are running")
                result = check(bot, f"http://127.0.0.1:{port}/v1")
            assert bot.process.returncode == 0
            return result

        return await in_thread(run)


async def test_a_killed_worker_is_replaced_while_the_other_answers(tmp_path: Path) -> None:
    def check(bot: RunningBot, url: str) -> int:
        first = pids(bot)[0]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(pids(bot)) == 3)
        answers = 0
        for _ in range(20):
            try:
                answers += ask_gateway(url, "hi") == "hello"
            except (urllib.error.URLError, ConnectionError):
                # The kernel had given this connection to the dead worker.
                continue
        return answers

    assert await with_bot(tmp_path, check) >= 10


async def test_all_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    def check(bot: RunningBot, _: str) -> int:
        workers = pids(bot)
        bot.process.send_signal(signal.SIGTERM)
        bot.process.wait(LIMIT_S)
        return sum(alive(pid) for pid in workers)

    assert await with_bot(tmp_path, check) == 0


async def test_workers_stop_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    port = free_port()
    async with RehearsalServer("say:hello") as server:
        (tmp_path / "config.yaml").write_text(CONFIG.format(a=server.base_url, port=port))

        def run() -> None:
            with running_bot(tmp_path, "--workers", "2") as bot:
                bot.until("2 workers are running")
                workers = pids(bot)
                bot.process.kill()
                bot.process.wait(LIMIT_S)
                wait_for(lambda: not any(alive(pid) for pid in workers))

        await in_thread(run)


def test_workers_need_a_port_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG.format(a="http://127.0.0.1:9", port=0))

    done = understudy("run", "--workers", "2", folder=tmp_path)

    assert done.returncode == 2
    assert "gateway.port: choose a port" in done.stderr


def test_a_port_in_use_ends_with_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "config.yaml").write_text(CONFIG.format(a="http://127.0.0.1:9", port=port))

        done = understudy("run", "--workers", "2", folder=tmp_path)

    assert done.returncode == 2
    assert f"gateway.port: cannot listen on 127.0.0.1:{port}" in done.stderr
