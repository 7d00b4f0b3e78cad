"""An application on a listening socket, in the event loop of the caller."""

import asyncio
import socket
import sys
from typing import Self

from understudy.errors import ConfigError
from understudy.http_server.connection import Connection
from understudy.http_server.exchange import Application
from understudy.http_server.state import ClientLimits, ServerState

ACCEPTED_AT_ONCE = 32
"""asyncio accepts up to this many connections before it handles any. With the kernel's backlog as
the number, that could exceed the limits for connections and for open files."""
_BACKLOG = 2048


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
    """Serves one application. Raises ConfigError where it cannot listen on the address.

    With `reuse_port`, processes of one user share the port, and the kernel divides connections.
    """

    def __init__(
        self,
        app: Application,
        host: str,
        port: int,
        *,
        setting: str = "web.port",
        limits: ClientLimits | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._app = app
        self._limits = limits or ClientLimits()
        self._socket = _listen(host, port, setting, reuse_port=reuse_port)
        self._host = host
        self._state: ServerState | None = None
        self._listening: asyncio.Server | None = None

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def __aenter__(self) -> Self:
        state = self._state = ServerState(self._app, self._limits)
        self._listening = await state.loop.create_server(
            lambda: Connection(state), sock=self._socket, backlog=ACCEPTED_AT_ONCE
        )
        # asyncio has set the backlog to ACCEPTED_AT_ONCE; the kernel may queue more.
        self._socket.listen(_BACKLOG)
        return self

    def stop_accepting(self) -> None:
        """Close the socket that listens, and idle connections; running requests go on."""
        if self._listening is not None and self._state is not None:
            self._listening.close()
            self._socket.close()
            self._state.stop()
            self._listening = None

    async def __aexit__(self, *_: object) -> None:
        self.stop_accepting()
        if self._state is not None:
            await self._state.end()
        self._socket.close()
