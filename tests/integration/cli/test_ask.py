import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from asyncio import to_thread as in_thread
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import plain_environment, understudy
from llama_server import llama_server
from pdf_files import encrypted, pdf_of
from tiny_model import make_tiny_model
from understudy.rehearsal.server import RehearsalServer
from waiting import LIMIT_S

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

    done = understudy("ask", "hello starlight", "-v", folder=tmp_path)

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

    done = understudy("ask", "hello", "-v", folder=tmp_path)

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
        cwd=folder, env=plain_environment(), input=b"caf\xe9", capture_output=True, timeout=LIMIT_S,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


async def test_piped_input_is_added_to_the_question(tmp_path: Path) -> None:
    async with RehearsalServer("say:well") as server:
        one_server(tmp_path, server)
        done = await in_thread(
            understudy, "ask", "summarise", folder=tmp_path, stdin="line 1\nline 2\n"
        )
        asked = server.last_body["messages"]

    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")
    assert "summarise\n\nline 1\nline 2" in str(asked).replace("\\n", "\n")


async def test_without_a_database_none_is_made(tmp_path: Path) -> None:
    async with RehearsalServer("say:well") as server:
        one_server(tmp_path, server)
        await in_thread(understudy, "ask", "hello", folder=tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


async def test_where_the_database_exists_replies_are_in_the_ledger_and_limits_bind(
    tmp_path: Path,
) -> None:
    async with RehearsalServer("say:well") as server:
        one_server(tmp_path, server, "limits: {per_user: {requests_per_day: 1}}")
        understudy_db = await in_thread(understudy, "db", "migrate", folder=tmp_path)
        first = await in_thread(understudy, "ask", "hello", "--json", folder=tmp_path)
        second = await in_thread(understudy, "ask", "hello again", folder=tmp_path)
        usage = await in_thread(understudy, "usage", "--by", "user", "--json", folder=tmp_path)
        why = await in_thread(understudy, "why", json.loads(first.stdout)["id"], folder=tmp_path)

    assert (understudy_db.returncode, first.returncode, second.returncode) == (0, 0, 3)
    assert "enough for today" in second.stdout
    assert [row["replies"] for row in json.loads(usage.stdout)] == [1]
    assert "answered" in why.stdout
    assert server.calls == 1


async def test_a_named_file_that_is_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# Notes")
    async with RehearsalServer("say:well") as server:
        one_server(tmp_path, server, "vision: {enabled: true}")
        done = await in_thread(
            understudy, "ask", "what is this", "--image", "notes.md", folder=tmp_path
        )

    assert (done.returncode, done.stdout) == (2, "")
    assert "notes.md" in done.stderr
    assert server.calls == 0


async def test_text_and_pdf_files_go_with_the_question(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# The code word is teapot")
    (tmp_path / "page.pdf").write_bytes(pdf_of("The second word is kettle"))
    async with RehearsalServer("say:well") as server:
        one_server(tmp_path, server)
        done = await in_thread(
            understudy, "ask", "which?", "-f", "notes.md", "--file", "page.pdf", folder=tmp_path
        )

    assert (done.returncode, done.stdout) == (0, "well\n")
    asked = json.dumps(server.last_body)
    assert "The code word is teapot" in asked
    assert "The second word is kettle" in asked


async def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "secret.pdf").write_bytes(encrypted(pdf_of("hidden"), "password"))
    async with RehearsalServer("say:well") as server:
        one_server(tmp_path, server)
        done = await in_thread(understudy, "ask", "read", "-f", "secret.pdf", folder=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert "secret.pdf: it is encrypted" in done.stderr
    assert server.calls == 0


async def test_the_route_of_a_reply_that_took_several_servers_is_beside_it(tmp_path: Path) -> None:
    async with RehearsalServer("e401") as refusing, RehearsalServer("say:well") as server:
        one_server(tmp_path, server, first=refusing.base_url)
        done = await in_thread(understudy, "ask", "hello", folder=tmp_path)

    assert done.stdout == "well\n"
    *warnings, route = done.stderr.splitlines()
    assert warnings == ["warning: router: operator needed (first, auth)"]
    assert re.fullmatch(r"key refused: first · answered: a, [\d.]+ s, .*", route)


async def test_a_reply_of_the_first_server_comes_alone(tmp_path: Path) -> None:
    async with RehearsalServer("say:well") as server:
        one_server(tmp_path, server)
        done = await in_thread(understudy, "ask", "hello", folder=tmp_path)

    assert (done.stdout, done.stderr) == ("well\n", "")


def one_server(
    folder: Path, server: RehearsalServer, more: str = "", first: str | None = None
) -> None:
    urls = ({"first": first} if first else {}) | {"a": server.base_url}
    entries = ", ".join(
        f"{name}: {{engine: openai, base_url: '{url}'}}" for name, url in urls.items()
    )
    (folder / "config.yaml").write_text(
        f"model: {{provider_order: [{', '.join(urls)}], servers: {{{entries}}}}}\n{more}\n"
    )


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
            cwd=tmp_path, env=plain_environment(), stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await server.until(lambda seen: bool(seen.asked))
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(LIMIT_S):
                _, stderr = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        await server.until(lambda seen: bool(seen.disconnects))

    assert process.returncode == 130
    assert b"crashed" not in stderr
