import signal
import socket
import urllib.request
from asyncio import to_thread as in_thread
from pathlib import Path

from bot_process import ask_gateway, running_bot
from command import understudy
from understudy.rehearsal.server import RehearsalServer
from waiting import LIMIT_S

CONFIG = """\
model:
  provider_order: [{order}]
  servers:
    a: {{engine: openai, base_url: "{a}"}}
    b: {{engine: openai, base_url: "{b}"}}
web: {{port: 0}}
gateway: {{enabled: true, port: 0}}
"""


def write(folder: Path, order: str, a: RehearsalServer, b: RehearsalServer) -> None:
    text = CONFIG.format(order=order, a=a.base_url, b=b.base_url)
    (folder / "config.yaml").write_text(text)


async def test_switching_the_order_takes_effect_while_it_runs(tmp_path: Path) -> None:
    async with RehearsalServer("say:from a") as a, RehearsalServer("say:from b") as b:
        write(tmp_path, "a", a, b)
        said = await in_thread(_switching, tmp_path, a, b)

    assert said == ["from a", "from b"]


def _switching(folder: Path, a: RehearsalServer, b: RehearsalServer) -> list[str]:
    with running_bot(folder) as bot:
        first = ask_gateway(bot.gateway, "hello")
        write(folder, "b", a, b)
        bot.until("config.reloaded")
        return [first, ask_gateway(bot.gateway, "hello")]


async def test_a_broken_file_changes_nothing_and_the_log_says_why(tmp_path: Path) -> None:
    async with RehearsalServer("say:from a") as a, RehearsalServer("say:from b") as b:
        write(tmp_path, "a", a, b)
        said = await in_thread(_breaking, tmp_path)

    assert said == "from a"


def _breaking(folder: Path) -> str:
    with running_bot(folder) as bot:
        assert bot.gateway
        (folder / "config.yaml").write_text("modle: {}\n")
        assert "did you mean 'model'" in bot.until("config.refused.*")
        return ask_gateway(bot.gateway, "hello")


async def test_a_doubt_about_an_edit_is_logged(tmp_path: Path) -> None:
    async with RehearsalServer() as a, RehearsalServer() as b:
        write(tmp_path, "a, b", a, b)
        said = await in_thread(_doubting, tmp_path)

    assert ".env:1: is not NAME=value" in said


def _doubting(folder: Path) -> str:
    with running_bot(folder) as bot:
        assert bot.gateway
        (folder / ".env").write_text("a key without its name\n")
        return bot.until("config.doubtful.*")


async def test_the_page_is_up_and_sigterm_ends_the_program_in_order(tmp_path: Path) -> None:
    async with RehearsalServer() as a, RehearsalServer() as b:
        write(tmp_path, "a, b", a, b)
        status, code = await in_thread(_page_and_end, tmp_path)

    assert status == [200, 200, 200]
    assert code == 0


def _page_and_end(folder: Path) -> tuple[list[int], int | None]:
    with running_bot(folder) as bot:
        status = []
        for path in ("/", "/readyz", "/metrics"):
            with urllib.request.urlopen(bot.page + path, timeout=LIMIT_S) as response:
                status.append(response.status)
    return status, bot.process.returncode


def test_without_page_and_terminal_the_first_run_names_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("web: {enabled: false}\n")

    done = understudy("run", folder=tmp_path)

    assert done.returncode == 2
    assert "OPENROUTER_API_KEY" in done.stderr
    assert "understudy setup" in done.stderr
    assert not (tmp_path / "understudy.db").exists()


def test_a_port_that_is_taken_ends_with_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "config.yaml").write_text(
            "model: {provider_order: [a], servers: {a: {base_url: 'http://127.0.0.1:9'}}}\n"
            f"web: {{port: {port}}}\n"
        )

        done = understudy("run", folder=tmp_path)

    assert done.returncode == 2
    assert f"web.port: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_terminal_ends_it_gracefully(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("web: {port: 0}\n")
    with running_bot(tmp_path, OPENROUTER_API_KEY="sk-or-v1-test") as bot:
        assert bot.page

        bot.process.send_signal(signal.SIGHUP)

        assert bot.process.wait(LIMIT_S) == 0
    assert "Finishing running replies" in bot.stderr_file.read_text()


def test_the_login_link_is_not_written_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("web: {port: 0}\n")
    with running_bot(tmp_path, OPENROUTER_API_KEY="sk-or-v1-test") as bot:
        assert bot.page
        bot.until("Operator's page")

    assert "code=" not in bot.stderr_file.read_text()
