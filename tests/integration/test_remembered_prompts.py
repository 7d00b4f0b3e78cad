"""Prompts with notes, recalled messages and a summary, in front of a genuine llama.cpp server."""

import re
import sqlite3
from pathlib import Path

import pytest

from command import understudy
from llama_server import llama_server
from tiny_model import make_tiny_model
from understudy.conversation.inbox import Channel, Decision
from understudy.conversation.messages import Addressed, Author, Inbound, Place
from understudy.conversation.personas.registry import BUILT_IN_GUARD, BUILT_IN_STYLE
from understudy.memory.store import NoteScope, Summary
from understudy.platforms.terminal import CHANNEL, PLATFORM
from understudy.storage.stores import open_storage

PLACE = Place(PLATFORM, CHANNEL, private=True)
ME = Author("me", "You")
REPLY_TOKENS = 48
LINES = (
    "lmaooo nah fr fr dat ting b wildin ong no cap, u kno wut im sayin??? smh my head rn tbh",
    "Übermäßige Straßenbaumaßnahmen verzögern die Fußgängerüberführung am Güterbahnhof.",
    "今天的天气非常好，我们一起去公园散步吧，顺便买一些新鲜的水果和面包回家做晚饭。",
    "def f(xs): return {k: sum(v for _, v in g) / max(1, len(xs)) for k, g in groupby(xs)}",
    "the cat and the dog go down the long way to the house by the river and look at the moon",
)
MARKS = ("wanted-note", "wanted-fact", "wanted-summary")


async def remembered(folder: Path, lines: int) -> None:
    """A long conversation with everything that can be remembered."""
    async with open_storage(folder / "understudy.db", persist=True) as opened:
        assert opened.memory is not None
        for number in range(lines):
            text = LINES[number % len(LINES)]
            if number == 3:
                text = "the zeppelin is called wanted-fact"
            inbound = Inbound(f"m{number}", PLACE, ME, text, 1000.0 + number, Addressed.DM)
            await opened.inbox.add(inbound, Decision(answer=False, reason="dm"), 9e9)
        await opened.memory.add_note(NoteScope(PLATFORM, "", "me"), "wanted-note", 1.0)
        claim = await opened.memory.claim_summary(Channel(PLATFORM, CHANNEL), 1.0, 60.0)
        assert claim is not None
        summary = Summary("wanted-summary. " + LINES[-1], 1, lines // 2, 0, 9e9)
        assert await opened.memory.save_summary(claim, summary, ["me"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("context", "lines", "marks"),
    [(1024, 80, 1), (4096, 300, 3), (32_768, 2000, 3)],
)
async def test_the_context_is_used_and_never_exceeded_with_everything_remembered(
    context: int, lines: int, marks: int, tmp_path: Path
) -> None:
    known = re.findall(r"\w+", f"{BUILT_IN_GUARD} {BUILT_IN_STYLE}")
    model = make_tiny_model(tmp_path / "tiny.gguf", ends=False, context=context, known=known)
    await remembered(tmp_path, lines)
    with llama_server(model, context=context) as engine:
        (tmp_path / "config.yaml").write_text(
            "model:\n  provider_order: [local]\n"
            f"  local: {{enabled: true, engine: llama.cpp, base_url: '{engine}',"
            f" max_tokens: {REPLY_TOKENS}, timeout_seconds: 1000,"
            " total_timeout_seconds: 1200}\n"
            "  deadline: {commit_seconds: 1100, total_seconds: 1200}\n"
            "conversation: {history_messages: 3000, max_prompt_tokens: 100000}\n"
            "memory: {recall: true}\n"
            "logging: {prompts: true}\n"
        )
        run = understudy("chat", folder=tmp_path, stdin="what is my zeppelin called?\n")

    assert "answered: local/llama.cpp, " in run.stdout, run.stderr
    room = context - REPLY_TOKENS
    (used,) = reply_tokens(tmp_path)
    prompts = "\n".join(path.read_text() for path in tmp_path.glob("prompts/**/*.json*"))
    assert 0.8 * room <= used <= room
    assert sum(mark in prompts for mark in MARKS) >= marks


def reply_tokens(folder: Path) -> list[int]:
    """Tokens of the prompts of replies, as the server counted them."""
    with sqlite3.connect(folder / "understudy.db") as database:
        rows = database.execute(
            "SELECT input_tokens, usage_source FROM attempts JOIN replies USING (run)"
            " WHERE attempts.outcome = 'ok' AND purpose = 'reply'"
        ).fetchall()
    assert {source for _, source in rows} == {"reported"}
    return [tokens for tokens, _ in rows]
