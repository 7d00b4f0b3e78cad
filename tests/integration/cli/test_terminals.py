"""Terminals that know few characters, and streams that are closed."""

import subprocess
import sys
from asyncio import to_thread as in_thread
from pathlib import Path

from command import plain_environment
from understudy.rehearsal.server import RehearsalServer
from waiting import LIMIT_S


async def asked(folder: Path, part: str, closed: str = "", encoding: str = "utf-8") -> bytes:
    async with RehearsalServer(part) as server:
        named = f"{{a: {{engine: openai, base_url: '{server.base_url}'}}}}"
        (folder / "config.yaml").write_text(f"model: {{provider_order: [a], servers: {named}}}")
        return await in_thread(shell, folder, f"ask hello {closed}", encoding)


def shell(folder: Path, line: str, encoding: str = "utf-8") -> bytes:
    """What the command printed; with a code of its own it fails."""
    environment = plain_environment({"PYTHONUTF8": "0", "PYTHONIOENCODING": encoding})
    return subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m understudy {line}"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, timeout=LIMIT_S, check=True,
    ).stdout  # fmt: skip


async def test_a_terminal_without_the_letters_shows_marks(tmp_path: Path) -> None:
    shown = await asked(tmp_path, "say:caf\u00e9 \u2192 soon", encoding="iso-8859-1")

    assert shown == b"caf\xe9 ? soon\n"


async def test_a_closed_log_stream_keeps_no_reply_back(tmp_path: Path) -> None:
    assert await asked(tmp_path, "say:well", "2>&-") == b"well\n"


def test_a_chat_with_nobody_at_the_other_end_is_over(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "model: {provider_order: [local], local: {enabled: true}}"
    )

    assert shell(tmp_path, "chat <&-") == b""


async def test_pipes_are_utf_8_whatever_the_code_page(tmp_path: Path) -> None:
    async with RehearsalServer("say:caf\u00e9 \u2192 soon") as server:
        named = f"{{a: {{engine: openai, base_url: '{server.base_url}'}}}}"
        (tmp_path / "config.yaml").write_text(f"model: {{provider_order: [a], servers: {named}}}")
        ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX"}
        done = await in_thread(
            subprocess.run,
            [sys.executable, "-m", "understudy", "ask", "hello"],
            cwd=tmp_path, env=plain_environment(ascii_only), capture_output=True, timeout=LIMIT_S,
        )  # fmt: skip

    assert done.stdout == "caf\u00e9 \u2192 soon\n".encode()
