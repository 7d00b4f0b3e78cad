"""Every command on a system that has no POSIX modules, signal handlers or file modes."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command import plain_environment
from understudy.rehearsal.server import RehearsalServer
from waiting import LIMIT_S

TESTS = Path(__file__).parents[2]


def _environment() -> dict[str, str]:
    environment = plain_environment()
    folders = [str(TESTS), str(TESTS.parent / "src"), environment.get("PYTHONPATH", "")]
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}


def _run(
    *words: str, folder: Path, stdin: str = "", timeout_s: float = 50
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "other_system", *words],
        cwd=folder, env=_environment(), input=stdin, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip


def _configure(folder: Path, server: RehearsalServer) -> None:
    (folder / "config.yaml").write_text(
        "model:\n"
        "  provider_order: [a]\n"
        f"  servers: {{a: {{engine: openai, base_url: '{server.base_url}'}}}}\n"
        "web: {port: 0}\n",
        encoding="utf-8",
    )


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    done = _run("import_all", folder=tmp_path)

    assert done.returncode == 0, done.stderr


def test_the_demo_shows_a_failover(tmp_path: Path) -> None:
    done = _run("demo", "--say", "hello", folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "answered: rehearsal-c" in done.stdout


async def test_a_configuration_in_a_folder_with_spaces_and_umlauts_is_checked(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "Jörg Müller"
    folder.mkdir()
    async with RehearsalServer() as server:
        _configure(folder, server)
    done = _run("config", "check", folder=folder)

    assert (done.returncode, done.stdout) == (0, "config.yaml is valid.\n")


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        (("ask", "hello"), "", "hello from a"),
        (("chat",), "hello\n", "hello from a"),
        (("doctor",), "", "ready"),
    ],
    ids=["ask", "chat", "doctor"],
)
async def test_commands_work(
    words: tuple[str, ...], stdin: str, expected: str, tmp_path: Path
) -> None:
    import asyncio

    async with RehearsalServer("say:hello from a") as server:
        _configure(tmp_path, server)
        done = await asyncio.to_thread(_run, *words, folder=tmp_path, stdin=stdin)

    assert expected in done.stdout, done.stderr
    assert "Traceback" not in done.stderr


def test_the_setup_writes_a_configuration_and_the_paths_are_printed(tmp_path: Path) -> None:
    setup = _run("setup", "--yes", "--port", "9", "--no-own-model", "--no-reply", folder=tmp_path)
    paths = _run("paths", folder=tmp_path)

    assert (setup.returncode, paths.returncode) == (0, 0), setup.stderr + paths.stderr
    assert str(tmp_path / "config.yaml") in paths.stdout


@contextmanager
def _running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "other_system", "run"],
        cwd=folder, env=_environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def test_the_bot_serves_its_page_until_it_is_interrupted(tmp_path: Path) -> None:
    async with RehearsalServer() as server:
        _configure(tmp_path, server)
        with _running(tmp_path) as process:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(line)
                if "Chat page" in line:
                    break
            assert "Chat page" in lines[-1], lines
            with urllib.request.urlopen(lines[-1].split()[-1], timeout=LIMIT_S) as page:  # noqa: ASYNC210
                assert page.status == 200
            process.send_signal(signal.SIGINT)

            assert process.wait(timeout=LIMIT_S) == 0
