"""`run --workers N`: processes that share the ports of gateway and page, and their supervisor."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from understudy.config.settings import Settings
from understudy.errors import ConfigError
from understudy.http_server.server import check_port

VARIABLE = "UNDERSTUDY_WORKER"
"""Set for each worker, as `2/4`: its number, counted from 1, and how many there are."""
READY = b"ready\n"
"""A worker prints it once everything runs."""

_log = structlog.get_logger()
_BACKOFF_S = (0.5, 30.0)
_STEADY_S = 60.0
"""A worker that ran this long starts again without a pause."""
_CONFIG_EXIT = 2
_STOP_S = 40.0
"""Longer than running replies may take at shutdown."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Which of the workers this process is."""

    number: int = 1
    count: int = 1

    @property
    def shares_ports(self) -> bool:
        return self.count > 1

    @property
    def is_first(self) -> bool:
        return self.number == 1

    def share_of(self, total: int) -> int:
        """This worker's part of a limit that holds for all of them."""
        return max(1, total // self.count)


ALONE = Worker()


def this_worker(environ: Mapping[str, str] = os.environ) -> Worker:
    """As the supervisor set it; alone without one."""
    number, _, count = environ.get(VARIABLE, "1/1").partition("/")
    return Worker(int(number), int(count))


def check_workers(settings: Settings) -> None:
    """Raises ConfigError where workers could not share the ports, or where one is in use."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("run.workers: this system cannot share a port among processes; use 1")
    for name, section in (("gateway", settings.gateway), ("web", settings.web)):
        if section.enabled and section.port == 0:
            raise ConfigError(f"{name}.port: choose a port; workers cannot share port 0")
        if section.enabled:
            check_port(section.host, section.port, f"{name}.port")


@asynccontextmanager
async def reporting(worker: Worker, stop: Callable[[], None]) -> AsyncGenerator[None]:
    """Tell the supervisor that this worker is ready, and call `stop` when the supervisor dies."""
    if not worker.shares_ports:
        yield
        return
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    loop = asyncio.get_running_loop()
    # The supervisor holds the other end of this pipe and never writes to it.
    loop.add_reader(sys.stdin.fileno(), stop)
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin.fileno())


class Supervisor:
    """Keeps `count` workers running until a signal; starts a dead one again, with backoff."""

    def __init__(
        self, command: Sequence[str], count: int, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._command = tuple(command)
        self._count = count
        self._environ = {k: v for k, v in environ.items() if not k.startswith("NOTIFY_")}
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._stopping = asyncio.Event()
        self.all_ready = asyncio.Event()
        self.exit_code = 0

    async def run(self) -> int:
        """Returns the exit code once every worker has ended."""
        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM)
        for number in caught:
            loop.add_signal_handler(number, self.stop, number)
        try:
            await asyncio.gather(*(self._keep_running(i) for i in range(1, self._count + 1)))
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
            for process in self._processes.values():
                process.kill()
        return self.exit_code

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Pass a signal on to every worker, and start none again."""
        self._stopping.set()
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep_running(self, number: int) -> None:
        pause_s = _BACKOFF_S[0]
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run_once(number)
            if self._stopping.is_set():
                return
            if code == _CONFIG_EXIT and not self.all_ready.is_set():
                # Every worker reads the same configuration; a restart cannot fix it.
                self.exit_code = code
                self.stop()
                return
            if loop.time() - started > _STEADY_S:
                pause_s = _BACKOFF_S[0]
            _log.warning("worker.ended", worker=number, code=code, again_in_s=pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(2 * pause_s, _BACKOFF_S[1])

    async def _run_once(self, number: int) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env={**self._environ, VARIABLE: f"{number}/{self._count}"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C in a terminal reaches the whole group; the supervisor passes it on once.
            start_new_session=True,
        )
        self._processes[number] = process
        _log.info("worker.started", worker=number, pid=process.pid)
        try:
            assert process.stdout is not None
            while line := await process.stdout.readline():
                if line == READY:
                    self._ready.add(number)
                    if len(self._ready) == self._count:
                        self.all_ready.set()
            return await self._ended(process)
        finally:
            self._ready.discard(number)
            del self._processes[number]

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """The exit code, once the worker has ended; one that does not end is killed."""
        try:
            async with asyncio.timeout(_STOP_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()
