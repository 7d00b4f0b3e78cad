"""A model of the bot's own: llama.cpp's dialect, spoken to a child process."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from understudy.errors import ErrorClass, ModelFileError, ProviderError, Unreachable
from understudy.llm.builtin.launch import Failure
from understudy.llm.builtin.options import LoadPlan
from understudy.llm.builtin.server import Address, ServerState
from understudy.llm.client import (
    EventReceiver,
    Exchange,
    Generation,
    LLMClient,
    ProbeReport,
    ProbeState,
)
from understudy.llm.messages import ChatRequest, Finished, Output

_STATES = {ErrorClass.MODEL_GONE: ProbeState.MODEL_MISSING}


class ModelServer(Protocol):
    """What keeps the model loaded."""

    @property
    def state(self) -> ServerState: ...
    @property
    def failure(self) -> Failure | None: ...
    @property
    def address(self) -> Address | None:
        """While it is ready."""
        ...

    def serving(self, *, may_wait: bool) -> AbstractAsyncContextManager[Address]:
        """Keep it loaded within the block. Raises ProviderError."""
        ...

    async def plan(self) -> LoadPlan:
        """What a load would take. Raises ModelFileError."""
        ...


Connect = Callable[[Address], LLMClient]


class BuiltinClient:
    """An LLMClient over whichever process serves the model at the moment."""

    supports_completions = True

    def __init__(
        self, server: ModelServer, connect: Connect, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._connect = connect
        self._clock = clock
        self._connected: tuple[Address, LLMClient] | None = None
        self._running: set[asyncio.Task[None]] = set()

    def start(
        self, request: ChatRequest, model: str, exchange: Exchange, receiver: EventReceiver
    ) -> Generation:
        asked = self._clock()

        def begin(address: Address, served: "_Served") -> Generation:
            exchange.loading_s = self._clock() - asked
            return self._client(address).start(request, model, exchange, served)

        served = _Served(receiver, begin)
        served.task = asyncio.get_running_loop().create_task(
            served.run(self._server.serving(may_wait=exchange.may_wait))
        )
        self._running.add(served.task)
        served.task.add_done_callback(self._running.discard)
        return served

    async def probe(self, model: str) -> ProbeReport:
        """Never loads the model: while it is not, its file tells what it will be."""
        address, failure = self._server.address, self._server.failure
        if address is not None:
            return await self._client(address).probe(model)
        if failure is not None:
            state = _STATES.get(failure.error_class, ProbeState.BROKEN)
            return ProbeReport(state, model=model, advice=failure.text)
        try:
            plan = await self._server.plan()
        except ModelFileError as error:
            return ProbeReport(ProbeState.MODEL_MISSING, model=model, advice=str(error))
        loading = self._server.state is ServerState.LOADING
        return ProbeReport(
            ProbeState.LOADING if loading else ProbeState.READY,
            model=plan.launch.alias,
            models=(plan.launch.alias,),
            context_length=plan.launch.context,
            vision=plan.sees,
            max_concurrency=plan.launch.parallel,
        )

    async def count_tokens(self, request: ChatRequest, model: str) -> int | None:
        address = self._server.address
        return None if address is None else await self._client(address).count_tokens(request, model)

    async def aclose(self) -> None:
        """Wait until no reply holds the process, which is not this client's own."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _client(self, address: Address) -> LLMClient:
        if self._connected is None or self._connected[0] != address:
            self._connected = (address, self._connect(address))
        return self._connected[1]


class _Served:
    """One reply by the child process, which is kept loaded until it has ended."""

    task: "asyncio.Task[None]"
    """Runs `run`."""

    def __init__(
        self, receiver: EventReceiver, begin: Callable[[Address, "_Served"], Generation]
    ) -> None:
        self._receiver = receiver
        self._begin = begin
        self._under: Generation | None = None
        self._paused = False
        self._ended = asyncio.Event()

    async def run(self, serving: AbstractAsyncContextManager[Address]) -> None:
        try:
            async with serving as address:
                self._under = self._begin(address, self)
                if self._paused:
                    self._under.pause_reading()
                await self._ended.wait()
        except ProviderError as error:
            self._receiver.failed(error)
        except Exception as error:  # noqa: BLE001 - the root of this task
            detail = type(error).__name__
            self._receiver.failed(Unreachable(ErrorClass.INTERNAL, detail=detail))

    # As the generation.

    def pause_reading(self) -> None:
        self._paused = True
        if self._under is not None:
            self._under.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if self._under is not None:
            self._under.resume_reading()

    def close(self) -> None:
        if self._under is None:
            self.task.cancel()
        else:
            self._under.close()
        self._ended.set()

    # As the receiver.

    def output(self, events: Sequence[Output]) -> None:
        self._receiver.output(events)

    def finished(self, finished: Finished) -> None:
        self._ended.set()
        self._receiver.finished(finished)

    def failed(self, error: ProviderError) -> None:
        self._ended.set()
        self._receiver.failed(error)
