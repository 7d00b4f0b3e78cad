import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio import to_thread as in_thread
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import plain_environment, understudy
from llama_server import llama_server
from tiny_model import make_tiny_model
from understudy.rehearsal.server import RehearsalServer

DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A genuine llama.cpp server."""
    model = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with llama_server(model) as base_url:
        yield base_url


def config(folder: Path, local: str) -> None:
    (folder / "config.yaml").write_text(
        f"""\
model:
  provider_order: [hosted, local]
  servers:
    hosted: {{engine: openai, base_url: "{DEAD}"}}
  local: {{enabled: true, engine: llama.cpp, base_url: "{local}", max_tokens: 40}}
"""
    )


def test_a_real_engine_answers_when_the_first_provider_is_dead(engine: str, tmp_path: Path) -> None:
    config(tmp_path, engine)

    done = understudy("ask", "hello you", "--json", folder=tmp_path)

    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert answer["provider"] == "local"
    assert answer["reply"].strip()
    assert [a["error_class"] for a in answer["attempts"]] == ["connect_refused", None]


def test_a_question_longer_than_the_context_is_cut_before_it_is_sent(
    engine: str, tmp_path: Path
) -> None:
    config(tmp_path, engine)

    done = understudy("ask", "lol omg " * 1500, "--json", folder=tmp_path)

    answer = json.loads(done.stdout)
    assert [a["error_class"] for a in answer["attempts"]] == ["connect_refused", None]
    assert 1000 < answer["usage"]["input_tokens"] < 2048


def test_the_tokens_are_those_the_real_engine_counted(engine: str, tmp_path: Path) -> None:
    config(tmp_path, engine)

    usage, longer = (
        json.loads(understudy("ask", words, "--json", folder=tmp_path).stdout)["usage"]
        for words in ("moon", " ".join(["moon"] * 21))
    )

    # Each "moon" is one token of this model.
    assert longer["input_tokens"] - usage["input_tokens"] == 20
    assert usage["source"] == "reported"
    assert 0 < usage["output_tokens"] <= 40


def test_the_log_names_who_failed_and_who_answered_and_nothing_that_was_said(
    engine: str, tmp_path: Path
) -> None:
    config(tmp_path, engine)

    done = understudy("ask", "hello starlight", folder=tmp_path)

    events = [json.loads(line) for line in done.stderr.splitlines()]
    attempts = [e for e in events if e["event"] == "provider.attempt"]
    assert [(a["provider"], a["outcome"]) for a in attempts] == [
        ("hosted", "error"),
        ("local", "ok"),
    ]
    assert "starlight" not in done.stderr
    assert done.stdout.strip() not in done.stderr


def test_with_everything_dead_the_person_gets_a_friendly_word_and_the_log_says_why(
    tmp_path: Path,
) -> None:
    config(tmp_path, DEAD)

    done = understudy("ask", "hello", folder=tmp_path)

    assert done.returncode == 3
    assert done.stdout == "I can't reach my thoughts right now. Give me a moment, please.\n"
    events = [json.loads(line) for line in done.stderr.splitlines()]
    reply = next(e for e in events if e["event"] == "reply.ended")
    assert reply["route"].startswith("not running: hosted · not running: local/llama.cpp")
    assert {e["error_class"] for e in events if e["event"] == "provider.attempt"} == {
        "connect_refused"
    }


def test_switching_the_provider_is_an_edit_of_the_file(engine: str, tmp_path: Path) -> None:
    config(tmp_path, engine)
    file = tmp_path / "config.yaml"
    file.write_text(file.read_text().replace("[hosted, local]", "[local]"))

    answer = json.loads(understudy("ask", "hello", "--json", folder=tmp_path).stdout)

    assert [a["provider"] for a in answer["attempts"]] == ["local"]


def test_a_mistake_in_the_file_ends_with_code_2_and_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model:\n  provider_ordr: [local]\n")

    done = understudy("ask", "hello", folder=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert "config.yaml:2: model.provider_ordr: unknown key; did you mean 'provider_order'?" in (
        done.stderr
    )


@pytest.mark.parametrize("words", [("-",), (os.fsdecode(b"caf\xe9"),)])
async def test_bytes_that_are_no_text_are_asked_as_marks(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    async with RehearsalServer("say:well") as server:
        named = f"{{a: {{engine: openai, base_url: '{server.base_url}'}}}}"
        (tmp_path / "config.yaml").write_text(f"model: {{provider_order: [a], servers: {named}}}")
        done = await in_thread(_asked_in_bytes, words, tmp_path)
        sent = str(server.last_body["messages"])

    assert done == (0, b"well\n")
    assert "caf\ufffd" in sent


def _asked_in_bytes(words: tuple[str, ...], folder: Path) -> tuple[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "understudy", "ask", *words],
        cwd=folder, env=plain_environment(), input=b"caf\xe9", capture_output=True, timeout=40,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_nothing_to_ask_costs_no_tokens(tmp_path: Path) -> None:
    config(tmp_path, DEAD)

    done = understudy("ask", "-", stdin=" \n", folder=tmp_path)

    assert done.returncode == 2
    assert "is empty" in done.stderr


async def test_ctrl_c_ends_it_at_once_and_the_server_hears_of_it(tmp_path: Path) -> None:
    async with RehearsalServer("silent") as server:
        named = f"{{a: {{engine: openai, base_url: '{server.base_url}'}}}}"
        (tmp_path / "config.yaml").write_text(f"model: {{provider_order: [a], servers: {named}}}")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "understudy", "ask", "hello",
            cwd=tmp_path, env=plain_environment(), stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await server.until(lambda seen: bool(seen.asked), timeout_s=20)
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(10):
                _, stderr = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        await server.until(lambda seen: bool(seen.disconnects))

    assert process.returncode == 130
    assert b"crashed" not in stderr
