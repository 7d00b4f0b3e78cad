"""What a restart must not forget, and what it must not remember."""

import contextlib
import io
import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from reply_events import reply_events
from understudy.app.bot import open_bot
from understudy.config.load import Config, parse_config
from understudy.errors import ErrorClass
from understudy.llm.messages import ChatRequest, Message, TextPart
from understudy.llm.testing import ScriptedClient
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer
from understudy.routing.candidates import Candidate, build_candidates
from understudy.routing.cooldown import CooldownBoard
from understudy.routing.cooldown_store import CooldownStore
from understudy.routing.failure_policy import RULES
from understudy.routing.request import Prompt, ReplyRequest, SinkKind


@dataclass
class Run:
    """One life of a process, as far as its holds go."""

    folder: Path
    now: float = 1000.0
    wall: float = 1e9
    board: CooldownBoard = field(default_factory=lambda: CooldownBoard(Random(1)))

    @property
    def file(self) -> Path:
        return self.folder / "holds"

    @property
    def held(self) -> CooldownStore:
        return CooldownStore(self.file, self.board, lambda: self.now, lambda: self.wall)

    def left_s(self, one: Candidate) -> float | None:
        hold = self.board.availability(one.scope_keys, self.now).hold
        return None if hold is None else hold.until - self.now

    def fail(self, one: Candidate, error_class: ErrorClass) -> None:
        rule = RULES[error_class]
        assert rule.scope is not None
        self.board.fail(one.scope_key(rule.scope), rule, error_class, self.now)


def configuration(text: str = "", **env: str) -> Config:
    model = '{"provider_order": ["chutes"], "chutes": {"enabled": true, "name": "m"}}'
    return parse_config(f'{{"model": {model}}}{text}', {"CHUTES_API_KEY": "sk-first"} | env)


def candidate(config: Config) -> Candidate:
    return build_candidates(config.settings.model, lambda _name, _server: ScriptedClient(()))[0]


PROMPT = Prompt(ChatRequest((Message("user", (TextPart("Hello"),)),)), input_tokens=10)
ASKED = ReplyRequest("r", "web", lambda _fit: PROMPT)
SAME = configuration()
ONE = candidate(SAME)


async def kept_by(folder: Path, error_class: ErrorClass) -> None:
    run = Run(folder)
    run.fail(ONE, error_class)
    await run.held.keep(SAME)


@pytest.mark.parametrize(
    ("error_class", "hold_s"), [(ErrorClass.AUTH, 600), (ErrorClass.QUOTA, 900)]
)
async def test_a_refused_key_and_an_empty_account_are_no_news_after_a_restart(
    tmp_path: Path, error_class: ErrorClass, hold_s: float
) -> None:
    await kept_by(tmp_path, error_class)
    next_run = Run(tmp_path, now=5.0, wall=1e9 + 100)

    await next_run.held.recall(configuration())

    assert next_run.left_s(ONE) == pytest.approx(hold_s - 100)
    assert next_run.board.holds(next_run.now)[0].cause is error_class


@pytest.mark.parametrize(
    "changed", [configuration("\n"), configuration(CHUTES_API_KEY="sk-second")]
)
async def test_a_changed_configuration_or_key_is_tried_afresh(
    tmp_path: Path, changed: Config
) -> None:
    await kept_by(tmp_path, ErrorClass.AUTH)
    next_run = Run(tmp_path)

    await next_run.held.recall(changed)

    assert next_run.left_s(ONE) is None


async def test_what_passes_by_itself_is_not_kept(tmp_path: Path) -> None:
    await kept_by(tmp_path, ErrorClass.RATE_LIMITED)
    await kept_by(tmp_path, ErrorClass.OVERLOADED)

    assert not Run(tmp_path).file.exists()


async def test_what_was_kept_counts_once_and_only_as_long_as_it_would_have(tmp_path: Path) -> None:
    await kept_by(tmp_path, ErrorClass.AUTH)
    await Run(tmp_path, wall=1e9 + 601).held.recall(SAME)
    second = Run(tmp_path)
    await second.held.recall(SAME)

    assert second.left_s(ONE) is None
    assert not second.file.exists()


async def test_a_clock_that_was_set_back_makes_no_hold_longer(tmp_path: Path) -> None:
    await kept_by(tmp_path, ErrorClass.AUTH)
    earlier = Run(tmp_path, wall=1e9 - 86_400)

    await earlier.held.recall(SAME)

    assert earlier.left_s(ONE) == 600


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"salt": 1}', b"\xff\xfe", b"null"])
async def test_a_file_that_cannot_be_read_is_as_none(tmp_path: Path, text: bytes) -> None:
    run = Run(tmp_path)
    run.file.write_bytes(text)

    await run.held.recall(SAME)

    assert run.board.holds(run.now) == ()


async def test_the_file_is_its_owners_alone_and_tells_nothing_of_the_key(tmp_path: Path) -> None:
    await kept_by(tmp_path, ErrorClass.AUTH)
    file = Run(tmp_path).file

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"sk-first" not in file.read_bytes()


async def test_a_bot_that_starts_again_leaves_a_refused_key_alone(tmp_path: Path) -> None:
    async with RehearsalServer("e401, ok") as server:
        entry = {"engine": "openai", "base_url": server.base_url, "name": "m"}
        model = {"provider_order": ["only"], "servers": {"only": entry}}
        storage = {"url": f"sqlite:///{tmp_path}/bot.db"}
        config = parse_config(json.dumps({"model": model, "storage": storage}), {})
        causes: list[ErrorClass | None] = []
        for _ in range(2):
            async with open_bot(config, Logs(config.settings.logging, io.StringIO())) as bot:
                if not causes:
                    async with contextlib.aclosing(
                        reply_events(bot.models.reply, ASKED, SinkKind.HELD)
                    ) as events:
                        assert [event async for event in events]
                causes.append(bot.models.router.status()[0].cause)

        assert causes == [ErrorClass.AUTH] * 2
        assert server.calls == 1
