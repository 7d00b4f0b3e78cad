"""What people are shown when they use the memory's commands."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import understudy.platforms
from conversation_driver import ANN, WEB, message
from understudy.conversation.inbox import Channel, Decision
from understudy.memory import command_line
from understudy.memory.command_line import Person
from understudy.memory.commands import MemoryCommands
from understudy.memory.store import NoteScope, Summary
from understudy.platforms import terminal
from understudy.storage.database import Database
from understudy.storage.inbox import SqlInbox
from understudy.storage.memory import SqlMemory

HERE = Channel.of(WEB)
MINE = NoteScope("web", "", "1")
STORED = Decision(answer=False, reason="dm")
PLATFORMS = Path(understudy.platforms.__file__).parent


async def _forget() -> int:
    return 3


PERSON = Person(MINE, _forget)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await Database.open(tmp_path / "bot.db")
    yield opened
    await opened.aclose()


EVERY = (
    "/remember tea",
    "/memories",
    "/forget note 1",
    "/memory",
    "/memory forget",
    "/compact",
    "/search tea",
)
UNCLEAR = ("/forget", "/forget note x", "/memory all", "/search", "/compact 3")


@pytest.mark.parametrize("line", EVERY)
async def test_without_stored_texts_every_command_says_so(line: str) -> None:
    commands = MemoryCommands(None, None)

    assert "persist" in await command_line.run(commands, line, HERE, PERSON)


@pytest.mark.parametrize("line", UNCLEAR)
async def test_a_command_that_is_not_understood_lists_the_commands(
    line: str, database: Database
) -> None:
    commands = MemoryCommands(SqlMemory(database, "one"), None)

    answer = await command_line.run(commands, line, HERE, PERSON)

    assert answer == f"The commands are:\n{command_line.HELP}"


async def test_a_person_is_forgotten_where_nothing_is_stored_too() -> None:
    answer = await command_line.run(MemoryCommands(None, None), "/forget me", HERE, PERSON)

    assert answer.startswith("Done. I deleted the text of 3 of your messages")


def test_the_page_the_terminal_and_discord_have_the_same_commands() -> None:
    script = (PLATFORMS / "web/assets/commands.js").read_text(encoding="utf-8")
    on_page = re.search(r"COMMAND = /\^\\/\(([a-z|]+)\)", script)
    on_discord = (PLATFORMS / "discord/memory_commands.py").read_text(encoding="utf-8")

    assert on_page is not None
    assert {f"/{name}" for name in on_page[1].split("|")} == command_line.NAMES
    for name in command_line.NAMES:
        assert f'name="{name[1:]}"' in on_discord
        assert f"\n{name} " in f"\n{terminal.COMMANDS}"


async def test_notes_are_one_line_and_have_room_for_1500_characters(database: Database) -> None:
    commands = MemoryCommands(SqlMemory(database, "one"), None)

    assert "nothing to remember" in await commands.remember(MINE, " \n ")
    assert await commands.remember(MINE, "tea\n  and cake") == "I remember that as note 1."
    assert "no room" in await commands.remember(MINE, "x" * 1500)
    assert (await commands.notes(MINE)).endswith("1. tea and cake")


async def test_a_summary_is_shown_with_its_time(database: Database) -> None:
    memory = SqlMemory(database, "one")
    commands = MemoryCommands(memory, None)
    claim = await memory.claim_summary(HERE, 0.0, 30.0)
    assert claim is not None
    await memory.save_summary(claim, Summary("They met.", 1, 2, 0, 1_790_000_000.0), ["1"])

    shown = await commands.summary(HERE)

    assert shown == "My summary of the earlier conversation (2026-09-21 14:13 UTC):\nThey met."
    assert await commands.forget_summary(HERE) == "I forgot my summary of this conversation."
    assert await commands.summary(HERE) == "I have no summary of this conversation."


async def test_long_messages_are_cut_in_the_results_of_a_search(database: Database) -> None:
    inbox = SqlInbox(database, "one")
    await inbox.add(message("m1", "word " * 100, ANN), STORED, 100.0)
    commands = MemoryCommands(SqlMemory(database, "one"), None)

    found = await commands.search(HERE, "word", lambda hit: f" #{hit.line.message_id}")

    assert found.startswith("1970-01-01 00:16, Ann: word word ")
    assert found.endswith(" … #m1")
    assert len(found) < 260
