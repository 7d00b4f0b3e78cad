"""One run: the world it happens in, and the evidence that gathers on the way."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from chaos.clock import JumpingClock
from chaos.invariants import Answer, Evidence, missing
from chaos.ledger_check import Entry, read_books, running_questions
from chaos.observations import Question, Witness
from chaos.process import NOTICE, BotProcess
from chaos.run_size import Size
from discord_double.double import DiscordDouble, buttons_of
from discord_double.payloads import Json, moment

_POINTER = "-# Answered below"
_ON_ITS_WAY_S = 0.3
_MOST_WAIT_S = 2700.0
"""The bot gives a question up after 55 minutes, rightly: none is made to wait so long."""


@dataclass
class Run:
    size: Size
    chance: Random
    double: DiscordDouble
    clock: JumpingClock
    witness: Witness
    bot: BotProcess
    kills: int = 0
    stirs: Counter[str] = field(default_factory=Counter)
    interrupted: Counter[Entry] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _settled: set[int] = field(default_factory=set)

    @property
    def faulted(self) -> int:
        return sum(call.faulted for call in self.witness.calls)

    def open_questions(self) -> list[Question]:
        """Those without a finished answer."""
        still = [q for n, q in self.witness.questions.items() if n not in self._settled]
        self._settled |= {q.number for q in still if self._is_settled(q)}
        return [q for q in still if q.number not in self._settled]

    def _is_settled(self, question: Question) -> bool:
        return any(
            _is_answer(reply) and "Stop" not in {button["label"] for button in buttons_of(reply)}
            for reply in self.double.answers_to(question.message)
        )

    def may_leap(self, seconds: float) -> bool:
        """Whether nobody's question gets too old by it."""
        now = self.clock.now()
        waited = [now - moment(question.message["id"]) for question in self.open_questions()]
        # Those that are lost already must not stop the time for all others.
        return seconds + max((w for w in waited if w < _MOST_WAIT_S), default=0.0) < _MOST_WAIT_S

    async def take_stock(self, *, killed: bool) -> None:
        """With the bot dead: which calls its ledger lacks, and whether a kill explains it."""
        # What the dead had sent is still on its way to the servers, and counts.
        await asyncio.sleep(_ON_ITS_WAY_S)
        await self.double.until(lambda: not self.witness.running)
        books = await asyncio.to_thread(read_books, self.bot.database)
        running = await asyncio.to_thread(running_questions, self.bot.database)
        called = Counter((call.server, call.question) for call in self.witness.calls)
        for entry, times in called.items():
            lacking = missing(entry, times - self.interrupted[entry], books)
            if lacking and killed and entry[1] in running:
                self.interrupted[entry] += lacking
            elif lacking:
                when = f"kill {self.kills}" if killed else "a stop"
                self.wrong.append(f"q{entry[1]} at {entry[0]}: {lacking} not recorded at {when}")

    def evidence(self) -> Evidence:
        names = {q.message["id"]: number for number, q in self.witness.questions.items()}
        answers = [
            Answer(int(sent["id"]), names.get(_parent(sent)), sent["content"])
            for sent in self.double.sent()
            if _is_answer(sent)
        ]
        books = read_books(self.bot.database)
        return Evidence(
            self.witness.questions, answers, self.witness.calls, books, self.interrupted, self.wrong
        )


def _is_answer(message: Json) -> bool:
    return message["content"] != NOTICE and not message["content"].startswith(_POINTER)


def _parent(message: Json) -> str:
    return str((message.get("message_reference") or {}).get("message_id"))
