"""A model of the bot's own: llama.cpp's dialect, spoken to a child process."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Protocol

from understudy.errors import ErrorClass, ModelFileError
from understudy.llm.builtin.launch import Failure
from understudy.llm.builtin.options import LoadPlan
from understudy.llm.builtin.server import Address, ServerState
from understudy.llm.client import Exchange, LLMClient, ProbeReport, ProbeState
from understudy.llm.messages import ChatEvent, ChatRequest

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

    def __init__(self, server: ModelServer, connect: Connect) -> None:
        self._server = server
        self._connect = connect
        self._connected: tuple[Address, LLMClient] | None = None

    async def stream(
        self, request: ChatRequest, model: str, exchange: Exchange
    ) -> AsyncGenerator[ChatEvent, None]:
        async with self._server.serving(may_wait=exchange.may_wait) as address:
            events = self._client(address).stream(request, model, exchange)
            async with aclosing(events):
                async for event in events:
                    yield event

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
        """The process is not its own."""

    def _client(self, address: Address) -> LLMClient:
        if self._connected is None or self._connected[0] != address:
            self._connected = (address, self._connect(address))
        return self._connected[1]
