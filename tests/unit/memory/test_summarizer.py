"""Summaries in the background, with a database and a scripted model."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from conversation_driver import ANN, BOB, FIT, LOUNGE, message, offline_record
from sample_records import answered, reply
from understudy.conversation.inbox import Channel, Decision
from understudy.conversation.remembered import KeptHistory
from understudy.llm.messages import TextPart
from understudy.memory.background import BackgroundModels, ModelRules
from understudy.memory.store import Summary
from understudy.memory.summarizer import Summarizer, SummaryRules
from understudy.routing.records import OfflineReason
from understudy.routing.request import ReplyEnded, ReplyRequest, ReplySink
from understudy.storage.database import Database
from understudy.storage.inbox import SqlInbox
from understudy.storage.memory import SqlMemory

HERE = Channel.of(LOUNGE)
STORED = Decision(answer=False, reason="chance")


@dataclass
class Model:
    """Answers with the number of the request; waits while the gate is closed."""

    requests: list[ReplyRequest] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fails: bool = False
    cancelled: int = 0
    was_cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def reply(self, request: ReplyRequest, sink: ReplySink) -> ReplyEnded:
        self.requests.append(request)
        request.build(FIT)
        self.asked.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.was_cancelled.set()
            raise
        if self.fails:
            return ReplyEnded(offline_record(OfflineReason.ALL_DOWN))
        record = reply(answered(request_id=request.id), request_id=request.id)
        return ReplyEnded(record, f"Summary {len(self.requests)}.", "stop")

    def text(self, number: int) -> str:
        parts = self.requests[number].build(FIT).request.messages[1].parts
        return "".join(part.text for part in parts if isinstance(part, TextPart))


@dataclass
class Stage:
    inbox: SqlInbox
    memory: SqlMemory
    model: Model
    models: BackgroundModels
    summarizer: Summarizer
    rules: list[SummaryRules]
    now: list[float]

    async def say(self, numbers: range, text: str = "line") -> None:
        for number in numbers:
            author = (ANN, BOB)[number % 2]
            inbound = message(f"m{number}", f"{text} {number}", author, LOUNGE)
            assert await self.inbox.add(inbound, STORED, 100.0)

    async def summary(self) -> Summary:
        return await self.memory.summary(HERE)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncGenerator[Stage]:
    database = await Database.open(tmp_path / "bot.db")
    model, rules, now, ids = Model(), [SummaryRules()], [1000.0], count()
    memory = SqlMemory(database, "one")
    models = BackgroundModels(model.reply, lambda: f"s{next(ids)}", quiet_s=0.0)
    summarizer = Summarizer(memory, models, lambda _: rules[0], lambda: now[0])
    yield Stage(SqlInbox(database, "one"), memory, model, models, summarizer, rules, now)
    await summarizer.aclose()
    await database.aclose()


def left_out(newest: int, middle: int) -> KeptHistory:
    return KeptHistory(HERE, newest, middle)


async def test_what_a_prompt_left_out_is_summarized_ahead_to_its_middle(stage: Stage) -> None:
    await stage.say(range(1, 11))

    stage.summarizer.schedule(left_out(4, 7))
    await stage.summarizer.idle()

    summary = await stage.summary()
    assert (summary.text, summary.first, summary.through) == ("Summary 1.", 1, 7)
    assert (stage.model.requests[0].purpose, stage.model.requests[0].origin.user) == ("summary", "")
    assert "Ann: line 2" in stage.model.text(0)
    assert "line 8" not in stage.model.text(0)


async def test_a_summary_that_covers_enough_is_not_made_again(stage: Stage) -> None:
    await stage.say(range(1, 11))
    stage.summarizer.schedule(left_out(4, 7))
    await stage.summarizer.idle()

    stage.summarizer.schedule(left_out(7, 9))
    await stage.summarizer.idle()
    assert len(stage.model.requests) == 1
    stage.summarizer.schedule(left_out(8, 9))
    await stage.summarizer.idle()

    assert (await stage.summary()).through == 9
    assert "Earlier summary:\nSummary 1." in stage.model.text(1)
    assert "line 7" not in stage.model.text(1)


async def test_many_lines_are_summarized_in_several_requests(stage: Stage) -> None:
    await stage.say(range(1, 451), "a longer line " * 10)

    stage.summarizer.schedule(left_out(440, 445))
    await stage.summarizer.idle()

    assert len(stage.model.requests) > 2
    assert (await stage.summary()).through == 445


async def test_a_change_while_it_is_made_discards_the_summary(stage: Stage) -> None:
    await stage.say(range(1, 11))
    stage.model.gate.clear()
    stage.summarizer.schedule(left_out(4, 7))
    await stage.model.asked.wait()

    await stage.inbox.delete("discord", "m3")
    stage.model.gate.set()
    await stage.summarizer.idle()

    assert await stage.summary() == Summary()
    stage.summarizer.schedule(left_out(4, 7))
    await stage.summarizer.idle()
    assert (await stage.summary()).through == 7
    assert "line 3" not in stage.model.text(1)


async def test_a_failed_summary_leaves_none_and_is_not_tried_again_at_once(stage: Stage) -> None:
    await stage.say(range(1, 11))
    stage.model.fails = True
    for _ in range(2):
        stage.summarizer.schedule(left_out(4, 7))
        await stage.summarizer.idle()

    assert await stage.summary() == Summary()
    assert len(stage.model.requests) == 1
    stage.now[0] += 301
    stage.model.fails = False
    stage.summarizer.schedule(left_out(4, 7))
    await stage.summarizer.idle()
    assert (await stage.summary()).through == 7


async def test_on_an_engine_at_home_it_is_cancelled_by_a_reply_and_made_after_it(
    stage: Stage,
) -> None:
    await stage.say(range(1, 11))
    stage.rules[0] = SummaryRules(models=ModelRules(gives_way=True))
    stage.model.gate.clear()
    stage.summarizer.schedule(left_out(4, 7))
    await stage.model.asked.wait()

    stage.model.asked.clear()
    stage.models.reply_started()
    await stage.model.was_cancelled.wait()
    assert not stage.model.asked.is_set()
    stage.model.gate.set()
    stage.models.reply_ended()
    await stage.summarizer.idle()

    assert (await stage.summary()).through == 7
    assert len(stage.model.requests) == 2


async def test_on_hosted_servers_a_reply_does_not_cancel_it(stage: Stage) -> None:
    await stage.say(range(1, 11))
    stage.model.gate.clear()
    stage.summarizer.schedule(left_out(4, 7))
    await stage.model.asked.wait()

    stage.models.reply_started()
    stage.model.gate.set()
    await stage.summarizer.idle()

    assert (await stage.summary()).through == 7
    assert stage.model.cancelled == 0


async def test_closing_cancels_the_request_and_ends_the_claim(stage: Stage) -> None:
    await stage.say(range(1, 11))
    stage.model.gate.clear()
    stage.summarizer.schedule(left_out(4, 7))
    await stage.model.asked.wait()

    await stage.summarizer.aclose()

    assert stage.model.cancelled == 1
    assert await stage.memory.claim_summary(HERE, 1000.0, 30.0) is not None


async def test_it_is_not_made_while_another_process_makes_it(stage: Stage) -> None:
    await stage.say(range(1, 11))
    assert await stage.memory.claim_summary(HERE, 1000.0, 30.0) is not None

    stage.summarizer.schedule(left_out(4, 7))
    await stage.summarizer.idle()

    assert stage.model.requests == []


async def test_compacting_covers_everything_up_to_a_position(stage: Stage) -> None:
    await stage.say(range(1, 11))

    outcome = await stage.summarizer.compact(HERE, 6)
    again = await stage.summarizer.compact(HERE, 6)

    summary = await stage.summary()
    assert (summary.through, summary.compacted) == (6, 6)
    assert (outcome.lines, outcome.complete, again.lines) == (6, True, 0)


async def test_compacting_uses_a_summary_that_is_there(stage: Stage) -> None:
    await stage.say(range(1, 11))
    stage.summarizer.schedule(left_out(4, 7))
    await stage.summarizer.idle()

    await stage.summarizer.compact(HERE, 6)

    assert (await stage.summary()).compacted == 7
    assert len(stage.model.requests) == 1


async def test_nothing_is_scheduled_while_summaries_are_off(stage: Stage) -> None:
    await stage.say(range(1, 11))
    stage.rules[0] = SummaryRules(enabled=False)

    stage.summarizer.schedule(left_out(4, 7))
    await stage.summarizer.idle()

    assert stage.model.requests == []
