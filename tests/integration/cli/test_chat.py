import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import plain_environment, understudy
from llama_server import llama_server
from pseudo_terminal import converse
from scripted_memory import FactModel
from tiny_model import make_tiny_model
from understudy.rehearsal.server import RehearsalServer


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with llama_server(model) as base_url:
        yield base_url


def test_a_chat_shows_each_reply_with_its_route_and_ends_with_the_input(
    engine: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(
        "model:\n  provider_order: [local]\n"
        f"  local: {{enabled: true, engine: llama.cpp, base_url: '{engine}', max_tokens: 30}}\n"
    )

    done = understudy("chat", folder=tmp_path, stdin="hello\nhow are you?\n")

    assert done.returncode == 0
    assert done.stdout.count("Understudy › ") == 2
    assert done.stdout.count("answered: local/llama.cpp, ") == 2


def test_without_any_provider_it_says_what_to_do_next(tmp_path: Path) -> None:
    done = understudy("chat", folder=tmp_path, stdin="hello\n")

    assert done.returncode == 2
    assert "OPENROUTER_API_KEY" in done.stderr


def test_the_commands_of_a_chat_work_on_its_conversation(engine: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "model:\n  provider_order: [local]\n"
        f"  local: {{enabled: true, engine: llama.cpp, base_url: '{engine}', max_tokens: 30}}\n"
        "persona: {name: Bessie}\n"
    )
    lines = ("/why", "hello", "/why", "/persona", "/persona nobody", "/image missing.png", "/new")

    done = understudy("chat", folder=tmp_path, stdin="\n".join(lines) + "\n")

    assert done.returncode == 0
    for text in (
        "There is no reply yet.",
        "answered: local/llama.cpp",
        "Persona: Bessie.",
        "There is no persona 'nobody'",
        "missing.png: No such file or directory",
        "A new conversation",
    ):
        assert text in done.stdout


async def test_a_chat_remembers_searches_and_forgets(tmp_path: Path) -> None:
    model = FactModel()
    async with RehearsalServer(model.behaviour) as server:
        (tmp_path / "config.yaml").write_text(
            f"model: {{provider_order: [a], servers: {{a: {{base_url: '{server.base_url}'}}}}}}\n"
        )
        lines = (
            "my pet is rex", "one", "two", "three", "/remember I like tea", "/memories",
            "/compact", "/memory", "/search pet", "what is my pet?", "/forget note 1",
            "/memory forget", "/forget everything", "/help", "/forget me", "/search pet",
        )  # fmt: skip

        done = await asyncio.to_thread(
            understudy, "chat", folder=tmp_path, stdin="\n".join(lines) + "\n"
        )

    assert done.returncode == 0
    for text in (
        "I remember that as note 1.",
        "1. I like tea",
        "Done: in my prompts a summary",
        "You's pet is rex.",
        "You: my pet is rex",
        "Understudy › rex",
        "I forgot note 1.",
        "I forgot my summary",
        "The commands are:",
        "/search WORDS    find earlier messages",
        "Done. I deleted the text of 5 of your messages",
        "I found nothing.",
    ):
        assert text in done.stdout, text
    assert "- You: I like tea" in model.prompts[-1]
    assert "my pet is rex" not in model.prompts[-1]


async def test_a_proposed_note_is_confirmed_in_the_terminal(tmp_path: Path) -> None:
    model = FactModel(note="I am allergic to peanuts.")
    async with RehearsalServer(model.behaviour) as server:
        (tmp_path / "config.yaml").write_text(
            f"model: {{provider_order: [a], servers: {{a: {{base_url: '{server.base_url}'}}}}}}\n"
            "memory: {propose: true}\n"
        )
        shown, code = await asyncio.to_thread(
            converse,
            ["chat"],
            [
                ("you › ", "I am allergic to peanuts, so?"),
                ("/remember yes or /remember no)", "/remember yes"),
                ("I remember that as note 1.", "/memories"),
                ("1. I am allergic to peanuts.", "/quit"),
            ],
            folder=tmp_path,
            env=plain_environment({}),
            # As the key sends it: while lines are edited, "\n" is Ctrl-J.
            enter="\r",
        )

    assert code == 0, shown
    assert "(May I remember this? “I am allergic to peanuts.” /remember yes or" in shown
