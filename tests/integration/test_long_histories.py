"""Long histories in many languages, in front of genuine llama.cpp servers with small contexts."""

import json
import re
import sqlite3
import urllib.request
from itertools import accumulate
from pathlib import Path

import pytest

from command import understudy
from llama_server import llama_server
from tiny_model import make_tiny_model
from understudy.conversation.personas.registry import BUILT_IN_GUARD, BUILT_IN_STYLE

REPLY_TOKENS = 48
LINES = (
    "lmaooo nah fr fr dat ting b wildin ong no cap, u kno wut im sayin??? smh my head rn tbh 2day "
    "wuz sooo meh, gonna yeet myself off 2 bed asap lololol xDDD ikr bruh deadass innit m8, "
    "c u l8r alligator, brb afk gg ez noob pwned roflcopter !!!!1!!1",
    "Übermäßige Straßenbaumaßnahmen verzögern die Fußgängerüberführung am Güterbahnhof; die "
    "Verkehrsgesellschaft veröffentlichte gestern Änderungsvorschläge für Anschlussverbindungen.",
    "Zażółć gęślą jaźń, powiedział źrebię do żółwia, i obaj pobiegli przez łąkę, aż chrząszcz "
    "zabrzęczał w trzcinie pod Szczebrzeszynem, gdzie mieszkał Grzegorz Brzęczyszczykiewicz.",
    "今天的天气非常好，我们一起去公园散步吧，顺便买一些新鲜的水果和面包回家做晚饭。",
    "def f(xs):\n    return {k: sum(v for _, v in g) / max(1, len(xs)) for k, g in "
    "itertools.groupby(sorted(xs), key=lambda t: t[0])} if xs else None  # O(n log n)",
    "the cat and the dog go down the long way to the house by the river and look at the moon",
)


def spoken(number: int) -> str:
    return f"{number}: {LINES[number % len(LINES)]}".replace("\n", " ")


def tokens_of(engine: str, text: str) -> int:
    body = json.dumps({"content": text}).encode()
    request = urllib.request.Request(
        f"{engine}/tokenize", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return len(json.load(answer)["tokens"])


@pytest.mark.parametrize("context", [1024, 2048, 4096])
def test_every_message_is_answered_and_the_context_is_used_over_restarts(
    context: int, tmp_path: Path
) -> None:
    known = re.findall(r"\w+", f"{BUILT_IN_GUARD} {BUILT_IN_STYLE}")
    model = make_tiny_model(tmp_path / "tiny.gguf", ends=False, context=context, known=known)
    with llama_server(model, context=context) as engine:
        (tmp_path / "config.yaml").write_text(
            "model:\n  provider_order: [local]\n"
            f"  local: {{enabled: true, engine: llama.cpp, base_url: '{engine}',"
            f" max_tokens: {REPLY_TOKENS}, timeout_seconds: 300,"
            " total_timeout_seconds: 500}\n"
            "  deadline: {commit_seconds: 400, total_seconds: 500}\n"
            "conversation: {history_messages: 200, max_prompt_tokens: 100000}\n"
            "participation: {user_per_minute: 1000, channel_per_minute: 1000}\n"
        )
        runs = [
            understudy(
                "chat",
                folder=tmp_path,
                stdin="".join(f"{spoken(n)}\n" for n in range(start, start + 20)),
            )
            for start in (0, 20, 40)
        ]
        sizes = [tokens_of(engine, spoken(n)) for n in range(60)]

    assert [run.returncode for run in runs] == [0, 0, 0], runs[-1].stderr
    assert [run.stdout.count("answered: local/llama.cpp, ") for run in runs] == [20, 20, 20]
    used = prompt_tokens(tmp_path)
    room = context - REPLY_TOKENS
    long = [
        prompt / room
        for prompt, history in zip(used, accumulate(sizes), strict=True)
        if history >= 2 * room
    ]
    assert long
    assert min(long) >= 0.8
    assert max(used) <= room


def prompt_tokens(folder: Path) -> list[int]:
    """Of every reply in order, as the server counted them."""
    with sqlite3.connect(next(folder.glob("**/*.db"))) as database:
        rows = database.execute(
            "SELECT input_tokens, usage_source FROM attempts WHERE outcome = 'ok' ORDER BY ts, run"
        ).fetchall()
    assert {source for _, source in rows} == {"reported"}
    return [tokens for tokens, _ in rows]
