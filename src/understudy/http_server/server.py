"""An ASGI app on a listening socket, in the event loop of the caller."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Generator
from functools import partial
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from understudy.errors import ConfigError
from understudy.http_server.connection import ClientLimits, Connection

ACCEPTED_AT_ONCE = 32
"""asyncio accepts up to this many connections before it handles any. With the kernel's backlog as
the number, that could exceed the limits for connections and for open files."""
_BACKLOG = 2048


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The program handles signals, not one of its servers."""
        yield


def _listen(host: str, port: int, setting: str, *, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm only for sockets whose protocol is IPPROTO_TCP; with it,
    # a response in two writes waits 40 ms for the client's delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port and sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{setting}: cannot listen on {host}:{port} ({error.strerror}). "
            "Is another Understudy running? Choose another port, or 0 for any."
        ) from error
    return listener


def check_port(host: str, port: int, setting: str) -> None:
    """Raises ConfigError where the port is in use, also by a process that would share it."""
    _listen(host, port, setting, reuse_port=False).close()


class WebServer:
    """Runs one ASGI app. Raises ConfigError where it cannot listen on the address.

    With `reuse_port`, processes of one user share the port, and the kernel divides connections.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        setting: str = "web.port",
        limits: ClientLimits | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._socket = _listen(host, port, setting, reuse_port=reuse_port)
        self._host = host
        limits = limits or ClientLimits()
        # Access without a token depends on the peer's address: no header may change it.
        config = uvicorn.Config(
            app,
            # uvicorn only calls it.
            http=partial(Connection, limits),  # type: ignore[arg-type]
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=limits.grace_s,
            backlog=ACCEPTED_AT_ONCE,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="web")
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.01)
        # asyncio has set the backlog to ACCEPTED_AT_ONCE; the kernel may queue more.
        self._socket.listen(_BACKLOG)
        return self

    def stop_accepting(self) -> None:
        """Close the socket that listens, and idle connections; running requests go on."""
        self._server.should_exit = True

    async def __aexit__(self, *_: object) -> None:
        self.stop_accepting()
        if self._task is not None:
            await self._task
        for connection in tuple(self._server.server_state.connections):
            # A client that does not read would keep its connection open.
            connection.transport.abort()
        self._socket.close()
