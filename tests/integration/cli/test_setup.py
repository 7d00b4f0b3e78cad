"""`understudy setup` in a terminal, in scripts, and again."""

import stat
import sys
from asyncio import to_thread as in_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from command import plain_environment, understudy
from understudy.config.load import load_config
from understudy.rehearsal.server import RehearsalServer

if sys.platform != "win32":
    from pseudo_terminal import converse

GOOD_KEY = "sk-or-v1-good"
SKIP_ALL = (
    ("elsewhere", ""),
    ("OpenRouter key (Enter: none)", ""),
    ("Fetch it", ""),
    ("Discord token (Enter: none)", ""),
    ("Name of the bot", ""),
)
FLAGS = ("setup", "--yes", "--no-own-model")


def port_of(server: RehearsalServer) -> str:
    return server.base_url.split(":")[2].split("/")[0]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@asynccontextmanager
async def openrouter() -> AsyncIterator[str]:
    """Answers for one good key, as OpenRouter does; yields its address."""

    async def key(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
            return web.json_response({"error": {"code": 401, "message": "no"}}, status=401)
        return web.json_response({"data": {"is_free_tier": True, "limit_remaining": None}})

    app = web.Application()
    app.router.add_get("/api/v1/key", key)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1"
    finally:
        await runner.cleanup()


async def test_a_person_sets_up_an_engine_that_runs_here_and_gets_a_reply(tmp_path: Path) -> None:
    async with RehearsalServer("say:Hello, I am Zoë.") as server:
        shown, code = await in_thread(
            converse,
            ("setup", "--port", port_of(server)),
            (("Add it?", ""), *SKIP_ALL[:-1], ("Name of the bot", "Zoë"), ("Write it?", "")),
            folder=tmp_path,
            env=plain_environment(),
        )

    assert code == 0, shown
    assert "Zoë: Hello, I am Zoë." in shown
    assert "answered: openai" in shown
    settings = load_config(tmp_path / "config.yaml", {}).settings
    assert settings.persona.name == "Zoë"
    assert settings.model.provider_order == ("openrouter", "local", "openai", "auto")
    assert "# Tried from left to right" in (tmp_path / "config.yaml").read_text("utf-8")


def test_without_an_engine_every_question_can_be_skipped(tmp_path: Path) -> None:
    shown, code = converse(
        ("setup", "--port", "9"), (*SKIP_ALL, ("Write it?", "")),
        folder=tmp_path, env=plain_environment(),
    )  # fmt: skip

    assert code == 0, shown
    assert "none found" in shown
    assert "understudy demo" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_person_who_refuses_the_summary_changes_nothing(tmp_path: Path) -> None:
    shown, code = converse(
        ("setup", "--port", "9"), (*SKIP_ALL, ("Write it?", "n")),
        folder=tmp_path, env=plain_environment(),
    )  # fmt: skip

    assert code == 1
    assert "Nothing was written." in shown
    assert list(tmp_path.iterdir()) == []


async def test_a_refused_key_is_asked_for_again_and_never_shown(tmp_path: Path) -> None:
    async with openrouter() as url:
        (tmp_path / "config.yaml").write_text(
            f"# mine\nmodel:\n  openrouter: {{base_url: '{url}'}}\n"
        )
        shown, code = await in_thread(
            converse,
            ("setup", "--port", "9", "--no-reply"),
            (
                ("elsewhere", ""),
                ("OpenRouter key (Enter: none)", "sk-or-v1-wrong"),
                ("OpenRouter key (Enter: none)", GOOD_KEY),
                *SKIP_ALL[2:],
                ("Write it?", ""),
            ),
            folder=tmp_path,
            env=plain_environment(),
        )

    assert code == 0, shown
    assert "OpenRouter refuses this key" in shown
    assert "The key works (no credits bought: free models only)" in shown
    assert GOOD_KEY not in shown
    env = tmp_path / ".env"
    assert f"OPENROUTER_API_KEY={GOOD_KEY}\n" in env.read_text()
    assert mode(env) == 0o600


async def test_a_script_adds_a_server_and_a_key_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# my keys\nOTHER=1\n")
    (tmp_path / "key").write_text(f"{GOOD_KEY}\n")
    async with openrouter() as url, RehearsalServer("say:hi") as server:
        config = f"# mine\nmodel:\n  openrouter: {{base_url: '{url}'}}   # near\n"
        (tmp_path / "config.yaml").write_text(config)
        words = (*FLAGS, "--port", "9", "--server", server.base_url, "--name", "Ann")
        done = await in_thread(
            understudy, *words, "--openrouter-key-file", "key", "--no-reply", folder=tmp_path
        )

    assert done.returncode == 0, done.stderr
    text = (tmp_path / "config.yaml").read_text()
    assert text.startswith(config)
    assert (tmp_path / ".env").read_text() == (
        f"# my keys\nOTHER=1\nOPENROUTER_API_KEY={GOOD_KEY}\n"
    )
    assert load_config(tmp_path / "config.yaml", {}).settings.persona.name == "Ann"


async def test_the_second_run_has_nothing_to_write(tmp_path: Path) -> None:
    async with RehearsalServer("say:hi") as server:
        words = (*FLAGS, "--port", port_of(server), "--no-reply")
        first = await in_thread(understudy, *words, folder=tmp_path)
        before = (tmp_path / "config.yaml").read_bytes()
        second = await in_thread(understudy, *words, folder=tmp_path)

    assert (first.returncode, second.returncode) == (0, 0)
    assert "Nothing to write" in second.stdout
    assert "already configured" in second.stdout
    assert (tmp_path / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--openrouter-key-file", "key"), "The OpenRouter key is set already"),
        (("--server", "http://127.0.0.1:9"), "No model server answers at"),
        (("--discord-token-file", "none"), "none cannot be read"),
    ],
)
def test_a_script_never_overwrites_and_never_guesses(
    flags: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("OPENROUTER_API_KEY=sk-or-v1-old\n")
    (tmp_path / "key").write_text("sk-or-v1-new")

    done = understudy(*FLAGS, "--port", "9", *flags, folder=tmp_path)

    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert (tmp_path / ".env").read_text() == "OPENROUTER_API_KEY=sk-or-v1-old\n"
    assert not (tmp_path / "config.yaml").exists()


def test_a_configuration_with_mistakes_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("modle: {}\n")

    done = understudy(*FLAGS, folder=tmp_path)

    assert done.returncode == 2
    assert "did you mean 'model'" in done.stderr
    assert (tmp_path / "config.yaml").read_text() == "modle: {}\n"
