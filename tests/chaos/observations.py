"""What is observed from outside: questions, calls of servers, and their texts."""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from discord_double.payloads import Json

_NUMBER = re.compile(r"\bq(\d+)\b")
_KEPT = 6
"""So many turns of a prompt are looked at; the whole ones of a long run would fill the memory."""


@dataclass(frozen=True, slots=True)
class Question:
    number: int
    message: Json
    author: str

    @property
    def channel(self) -> str:
        return str(self.message["channel_id"])


@dataclass(frozen=True, slots=True)
class PromptTurn:
    """One question in a prompt, and its reply in the prompt."""

    question: int
    reply: str | None = None


@dataclass(slots=True)
class Call:
    """One call of a model server, with as much of its answer as was sent."""

    server: str
    question: int
    prompt: tuple[PromptTurn, ...]
    """The end of it, in order; the last one is the question."""
    text: str = ""
    whole: bool = False
    faulted: bool = False


@dataclass
class Recorder:
    questions: dict[int, Question] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    running: int = 0
    on_call: Callable[[], None] = lambda: None
    _taken_up: dict[int, asyncio.Event] = field(default_factory=dict)

    def asked(self, question: Question) -> None:
        self.questions[question.number] = question
        self._taken_up[question.number] = asyncio.Event()

    def called(self, server: str, messages: object, *, faulted: bool) -> Call:
        """Note a call for a question. One for a summary, which quotes many, is for none."""
        if _is_summary(messages):
            return Call(server, 0, (), faulted=faulted)
        prompt = tuple(_turns(messages))
        call = Call(server, prompt[-1].question, prompt[-_KEPT:], faulted=faulted)
        self.calls.append(call)
        self._taken_up[call.question].set()
        self.on_call()
        return call

    async def until_taken_up(self, question: int) -> None:
        """Wait until a server was called for it: then it is alone in a batch."""
        await self._taken_up[question].wait()


def numbers_in(text: object) -> list[int]:
    return [int(number) for number in _NUMBER.findall(str(text))]


def _is_summary(messages: object) -> bool:
    assert isinstance(messages, list)
    return str(messages[-1]["content"]).startswith("Earlier summary:\n")


def _turns(messages: object) -> Iterator[PromptTurn]:
    assert isinstance(messages, list)
    asked: list[int] = []
    for message in messages:
        if message["role"] == "user":
            yield from map(PromptTurn, asked)
            asked = numbers_in(message["content"])
        elif message["role"] == "assistant":
            *before, last = asked or [0]
            yield from map(PromptTurn, before)
            yield PromptTurn(last, str(message["content"]))
            asked = []
    yield from map(PromptTurn, asked)
