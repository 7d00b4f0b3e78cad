"""Every built-in model of this process: one child process for each set of options in use."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from understudy.errors import ProviderError
from understudy.llm.addresses import server_root
from understudy.llm.builtin.options import BuiltinOptions, plan_load
from understudy.llm.builtin.server import Address, BuiltinServer
from understudy.llm.http.endpoint import Endpoint, HttpSessions, Pool
from understudy.model_files.folder import ModelFolder, default_folder

_CONNECT_S = 1.0
_KEEPALIVE_S = 0.0
_HTTP_OK = 200


class BuiltinServers:
    """Owned by what owns the HTTP sessions, and closed before them."""

    def __init__(
        self,
        sessions: HttpSessions,
        *,
        base: Path = Path(),
        folder: ModelFolder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`base` is the folder that relative paths of the configuration start from."""
        self._sessions = sessions
        self._base = base
        self._folder = folder or ModelFolder(default_folder())
        self._clock = clock
        self._servers: dict[BuiltinOptions, BuiltinServer] = {}

    def server(self, options: BuiltinOptions) -> BuiltinServer:
        """The one of these options; equal options share it."""
        if options not in self._servers:
            self._servers[options] = BuiltinServer(
                options,
                partial(plan_load, options, self._folder, self._base),
                is_healthy=self._is_healthy,
                memory_of=resident_bytes,
                clock=self._clock,
            )
        return self._servers[options]

    def keep(self, in_use: set[BuiltinOptions]) -> None:
        """End every other one as soon as its running replies are over."""
        for options, server in self._servers.items():
            server.retired = options not in in_use

    async def aclose(self) -> None:
        """End every process."""
        for server in self._servers.values():
            await server.aclose()

    async def _is_healthy(self, address: Address) -> bool:
        endpoint = Endpoint(
            self._sessions, address.url, headers={}, pool=Pool(_CONNECT_S, _KEEPALIVE_S)
        )
        try:
            answer = await endpoint.ask("GET", f"{server_root(address.url)}/health")
        except ProviderError:
            return False
        return answer.status == _HTTP_OK


def resident_bytes(pid: int) -> int:
    """The memory of a process, pages of the model's file included."""
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0
