"""A built-in model whose process is another server, started by the test."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from understudy.errors import ModelFileError
from understudy.llm.builtin.launch import Failure
from understudy.llm.builtin.options import BuiltinOptions, LoadPlan
from understudy.llm.builtin.server import Address, ServerState


class ReadyModel:
    """Always loaded."""

    state = ServerState.READY
    failure: Failure | None = None

    def __init__(self, url: str, key: str) -> None:
        self.address: Address | None = Address(url, key)

    @asynccontextmanager
    async def serving(self, *, may_wait: bool) -> AsyncGenerator[Address]:
        assert self.address is not None
        yield self.address

    async def plan(self) -> LoadPlan:
        raise ModelFileError("it is loaded already")


class ReadyModels:
    """One such model for all options."""

    def __init__(self, url: str, key: str) -> None:
        self._model = ReadyModel(url, key)

    def server(self, options: BuiltinOptions) -> ReadyModel:
        return self._model
