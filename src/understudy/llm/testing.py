"""ScriptedClient: a shipped double of LLMClient that plays back what it was given."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from understudy.llm.client import Exchange, Phase, ProbeReport, ProbeState
from understudy.llm.messages import ChatEvent, ChatRequest, Finished, TextDelta, Usage


@dataclass(frozen=True, slots=True)
class Pause:
    """Says nothing for `seconds` of the event loop's time."""

    seconds: float


SILENCE = Pause(1e9)
"""Never says anything again."""

_READY = ProbeReport(ProbeState.READY)

Step = ChatEvent | Exception | Pause | asyncio.Event
"""Yielded, raised, slept through or waited for."""
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
    """Plays one script per call, the last one again and again. An `Exception` in it is raised."""

    scripts: Sequence[Script]
    report: ProbeReport = _READY
    tokens: int | None = None
    calls: list[Call] = field(default_factory=list)
    supports_completions: bool = True
    probes: int = 0
    closed: bool = False

    async def stream(
        self, request: ChatRequest, model: str, exchange: Exchange
    ) -> AsyncGenerator[ChatEvent, None]:
        script = self.scripts[min(len(self.calls), len(self.scripts) - 1)]
        call = Call(request, model)
        self.calls.append(call)
        exchange.phase = Phase.FIRST_TOKEN
        try:
            for step in script:
                match step:
                    case Exception():
                        raise step
                    case Pause(seconds):
                        await asyncio.sleep(seconds)
                    case asyncio.Event():
                        await step.wait()
                    case _:
                        exchange.phase = Phase.STREAMING
                        _note(step, exchange)
                        yield step
        finally:
            call.ended = True

    async def probe(self, model: str) -> ProbeReport:  # noqa: ARG002 - answers alike for all
        self.probes += 1
        return self.report

    async def count_tokens(
        self,
        request: ChatRequest,  # noqa: ARG002 - counts what it was told to
        model: str,  # noqa: ARG002
    ) -> int | None:
        return self.tokens

    async def aclose(self) -> None:
        self.closed = True


def _note(event: ChatEvent, exchange: Exchange) -> None:
    if isinstance(event, Finished):
        exchange.phase = Phase.DONE
        exchange.usage = event.usage
