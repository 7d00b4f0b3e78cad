"""One run: its parts and the evidence it collects."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from chaos.clock import JumpingClock
from chaos.invariants import Answer, Evidence, missing
from chaos.ledger_check import Entry, read_ledger, running_questions
from chaos.observations import Question, Recorder
from chaos.process import OFFLINE_TEXT, BotProcess
from chaos.run_size import Size
from discord_double.double import DiscordDouble, buttons_of
from discord_double.payloads import Json, moment

_POINTER = "-# Answered below"
_ON_ITS_WAY_S = 0.3
_MOST_WAIT_S = 2700.0
"""The bot drops a question after 55 minutes, so no question may wait for so long."""


@dataclass
class Run:
    size: Size
    chance: Random
    double: DiscordDouble
    clock: JumpingClock
    recorder: Recorder
    bot: BotProcess
    kills: int = 0
    fault_counts: Counter[str] = field(default_factory=Counter)
    interrupted: Counter[Entry] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _settled: set[int] = field(default_factory=set)

    @property
    def faulted(self) -> int:
        return sum(call.faulted for call in self.recorder.calls)

    def open_questions(self) -> list[Question]:
        """Those without a finished answer."""
        still = [q for n, q in self.recorder.questions.items() if n not in self._settled]
        self._settled |= {q.number for q in still if self._is_settled(q)}
        return [q for q in still if q.number not in self._settled]

    def _is_settled(self, question: Question) -> bool:
        return any(
            _is_answer(reply) and "Stop" not in {button["label"] for button in buttons_of(reply)}
            for reply in self.double.answers_to(question.message)
        )

    def may_leap(self, seconds: float) -> bool:
        """Whether every open question stays young enough."""
        now = self.clock.now()
        waited = [now - moment(question.message["id"]) for question in self.open_questions()]
        # Those that are lost already must not stop the time for all others.
        return seconds + max((w for w in waited if w < _MOST_WAIT_S), default=0.0) < _MOST_WAIT_S

    async def check_ledger(self, *, killed: bool) -> None:
        """With the bot stopped: which calls its ledger lacks, and whether a kill explains it."""
        # Requests sent before the kill still reach the servers, and count.
        await asyncio.sleep(_ON_ITS_WAY_S)
        await self.double.until(lambda: not self.recorder.running)
        ledger = await asyncio.to_thread(read_ledger, self.bot.database)
        running = await asyncio.to_thread(running_questions, self.bot.database)
        called = Counter((call.server, call.question) for call in self.recorder.calls)
        for entry, times in called.items():
            lacking = missing(entry, times - self.interrupted[entry], ledger)
            if lacking and killed and entry[1] in running:
                self.interrupted[entry] += lacking
            elif lacking:
                when = f"kill {self.kills}" if killed else "a stop"
                self.wrong.append(f"q{entry[1]} at {entry[0]}: {lacking} not recorded at {when}")

    def evidence(self) -> Evidence:
        names = {q.message["id"]: number for number, q in self.recorder.questions.items()}
        answers = [
            Answer(int(sent["id"]), names.get(_parent(sent)), sent["content"])
            for sent in self.double.sent()
            if _is_answer(sent)
        ]
        ledger = read_ledger(self.bot.database)
        return Evidence(
            self.recorder.questions,
            answers,
            self.recorder.calls,
            ledger,
            self.interrupted,
            self.wrong,
        )


def _is_answer(message: Json) -> bool:
    return message["content"] != OFFLINE_TEXT and not message["content"].startswith(_POINTER)


def _parent(message: Json) -> str:
    return str((message.get("message_reference") or {}).get("message_id"))
