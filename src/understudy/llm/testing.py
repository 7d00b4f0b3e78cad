"""ScriptedClient: a double of LLMClient that plays scripts; part of the package."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from understudy.errors import BadReply, ErrorClass, ProviderError, Unreachable
from understudy.llm.client import (
    EventReceiver,
    Exchange,
    Generation,
    Phase,
    ProbeReport,
    ProbeState,
)
from understudy.llm.messages import ChatEvent, ChatRequest, Finished, TextDelta, Usage


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence for `seconds` of the event loop's time."""

    seconds: float


SILENCE = Pause(1e9)
"""Silence without end."""

_READY = ProbeReport(ProbeState.READY)

Step = ChatEvent | Exception | Pause | asyncio.Event
"""An event to send, an error to fail with, a pause, or an event of asyncio to wait for."""
Script = Sequence[Step]


def saying(*words: str, usage: Usage | None = None, reason: str = "stop") -> Script:
    """The script of a good reply."""
    return (*(TextDelta(word) for word in words), Finished(reason, usage))


@dataclass(slots=True)
class Call:
    request: ChatRequest
    model: str
    ended: bool = False
    """The stream is over or was closed: nothing is left open."""


@dataclass(slots=True, eq=False)
class ScriptedClient:
    """Plays one script per call; the last one repeats. An `Exception` ends the reply."""

    scripts: Sequence[Script]
    report: ProbeReport = _READY
    tokens: int | None = None
    calls: list[Call] = field(default_factory=list)
    supports_completions: bool = True
    probes: int = 0
    closed: bool = False

    def start(
        self, request: ChatRequest, model: str, exchange: Exchange, receiver: EventReceiver
    ) -> Generation:
        script = self.scripts[min(len(self.calls), len(self.scripts) - 1)]
        call = Call(request, model)
        self.calls.append(call)
        exchange.phase = Phase.FIRST_TOKEN
        return _Playback(iter(script), call, exchange, receiver)

    async def probe(self, model: str) -> ProbeReport:  # noqa: ARG002 - answers alike for all
        self.probes += 1
        return self.report

    async def count_tokens(
        self,
        request: ChatRequest,  # noqa: ARG002 - counts what it was given
        model: str,  # noqa: ARG002
    ) -> int | None:
        return self.tokens

    async def aclose(self) -> None:
        self.closed = True


class _Playback:
    """Plays one script by callbacks of the event loop."""

    def __init__(
        self, steps: Iterator[Step], call: Call, exchange: Exchange, receiver: EventReceiver
    ) -> None:
        self._steps = steps
        self._call = call
        self._exchange = exchange
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._waiting: asyncio.Task[bool] | None = None
        self._next: asyncio.Handle | None = self._loop.call_soon(self._play)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._next is None and self._waiting is None and not self._call.ended:
            self._next = self._loop.call_soon(self._play)

    def close(self) -> None:
        self._call.ended = True
        if self._next is not None:
            self._next.cancel()
        if self._waiting is not None:
            self._waiting.cancel()

    def _play(self) -> None:
        self._next = None
        while not self._call.ended and not self._paused:
            step = next(self._steps, None)
            match step:
                case Pause(seconds):
                    self._next = self._loop.call_later(seconds, self._play)
                    return
                case asyncio.Event():
                    self._waiting = self._loop.create_task(step.wait())
                    self._waiting.add_done_callback(self._go_on)
                    return
                case Finished():
                    self.close()
                    self._exchange.phase = Phase.DONE
                    self._exchange.usage = step.usage
                    self._receiver.finished(step)
                case None:
                    self._fail(BadReply(ErrorClass.TRUNCATED_STREAM))
                case Exception():
                    self._fail(step)
                case _:
                    self._exchange.phase = Phase.STREAMING
                    self._receiver.output([step])

    def _go_on(self, waited: "asyncio.Task[bool]") -> None:
        self._waiting = None
        if not waited.cancelled():
            self._play()

    def _fail(self, error: Exception) -> None:
        self.close()
        if not isinstance(error, ProviderError):
            error = Unreachable(ErrorClass.INTERNAL, detail=type(error).__name__)
        self._receiver.failed(error)
