"""Runs risky work in child processes, each with a deadline and a memory limit.

The work is a function that is named by module and name; its arguments and its result travel as
MessagePack, never as pickles, so a decoder that was taken over cannot run code in the parent.
Children start when the first work comes, inherit none of the keys in the environment, and end
when they are idle for a while. A child that misses its deadline or its memory limit is killed
and replaced. Closing the pool kills what still runs.
"""

import asyncio
import contextlib
import os
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

import msgspec
import psutil
import structlog

from understudy.errors import WorkerKilled, WorkFailed

T = TypeVar("T")

_LOG = structlog.get_logger()
_MIB = 1024 * 1024
_HEAD = struct.Struct(">I")
_WATCH_S = 0.03
_START_S = 20.0
"""For starting a child and importing its work: a cold disk or a busy machine delays that."""
_PASSED_ON = frozenset(
    # Windows does not start Python without SYSTEMROOT.
    ("PATH", "PYTHONPATH", "PYTHONHOME", "SYSTEMROOT", "LANG", "LC_ALL", "VIRTUAL_ENV", "TEMP")
)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Of one pool."""

    workers: int = 1
    deadline_s: float = 5.0
    """Of one piece of work, from its start in the child."""
    wait_s: float = 20.0
    """How long work may wait for a free child."""
    memory_mb: int = 256
    """Resident memory of one child."""
    together_mb: int = 300
    """Resident memory of all children; past it the largest is killed."""
    idle_s: float = 60.0
    """A child without work for this long ends."""


class Worker:
    """One child process; does one piece of work at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._memory: psutil.Process | None = None
        with contextlib.suppress(psutil.Error):
            self._memory = psutil.Process(process.pid)
        self.is_new = True
        self.killed_for: str | None = None

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None and self.killed_for is None

    def memory_mb(self) -> float:
        """Resident memory; 0 once it is gone."""
        try:
            return self._memory.memory_info().rss / _MIB if self._memory is not None else 0.0
        except psutil.Error:
            return 0.0

    async def call(self, request: bytes) -> bytes:
        """One answer. Raises EOFError and OSError where the child is gone."""
        reader, writer = self._process.stdout, self._process.stdin
        assert reader is not None
        assert writer is not None
        writer.write(_HEAD.pack(len(request)))
        writer.write(request)
        await writer.drain()
        (size,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        answer = await reader.readexactly(size)
        self.is_new = False
        return answer

    def kill(self, reason: str) -> None:
        if self.killed_for is None:
            self.killed_for = reason
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def aclose(self) -> None:
        self.kill("closed")
        await self._process.wait()
        # The transport holds the pipes until both ends are known to be closed.
        if self._process.stdin is not None:
            self._process.stdin.close()


class WorkerPool:
    """Runs functions of this program by name; see the module for the guarantees.

    Children call functions of `package` only.

    `killed` counts children that were killed, by (function, reason); the reasons are `deadline`,
    `memory` and `crash`.
    """

    def __init__(
        self, name: str, limits: WorkerLimits | None = None, *, package: str = "understudy"
    ) -> None:
        self.name = name
        self._package = package
        self.limits = limits or WorkerLimits()
        self.killed: Counter[tuple[str, str]] = Counter()
        self._free: list[Worker] = []
        self._busy: set[Worker] = set()
        self._places = asyncio.Semaphore(self.limits.workers)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def is_busy(self) -> bool:
        return bool(self._busy)

    @property
    def children(self) -> int:
        """Children that do work or wait for some."""
        return len(self._busy) + len(self._free)

    @property
    def ending(self) -> int:
        """Children that are being killed."""
        return len(self._closing)

    async def run(
        self, function: str, *args: object, kind: type[T], deadline_s: float | None = None
    ) -> T:
        """Call `module:function` with `args` in a child; its result as `kind`.

        Raises WorkerKilled for work that was too slow, too large or ended its process, and
        WorkFailed for an exception in the function, with its type and text.
        """
        request = msgspec.msgpack.encode((function, args))
        async with self._place(function), self._worker(function) as worker:
            limit_s = min(deadline_s or self.limits.deadline_s, self.limits.deadline_s)
            if worker.is_new:
                await self._prepare(worker, function)
            answer = await self._call(worker, request, limit_s)
        outcome, value = msgspec.msgpack.decode(answer, type=tuple[str, msgspec.Raw])
        if outcome == "failed":
            raise WorkFailed(*msgspec.msgpack.decode(value, type=tuple[str, str]))
        return msgspec.msgpack.decode(value, type=kind)

    async def aclose(self) -> None:
        """Kill every child at once; whoever waits for one gets WorkerKilled."""
        self._closed = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        for worker in (*self._free, *self._busy):
            self._retire(worker)
        self._free.clear()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        if self._closing:
            await asyncio.wait(self._closing)

    @asynccontextmanager
    async def _place(self, function: str) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(self.limits.wait_s):
                await self._places.acquire()
        except TimeoutError:
            raise WorkerKilled(function, "queue") from None
        try:
            yield
        finally:
            self._places.release()

    @asynccontextmanager
    async def _worker(self, function: str) -> AsyncGenerator[Worker]:
        """A child for one piece of work. It is kept only where that work came to its end."""
        if self._closed:
            raise WorkerKilled(function, "closed")
        worker = self._free.pop() if self._free else await self._started()
        self._busy.add(worker)
        self._watch()
        finished = False
        try:
            yield worker
            finished = True
        except (EOFError, OSError) as error:  # TimeoutError is an OSError
            reason = "deadline" if isinstance(error, TimeoutError) else "crash"
            raise self._counted(function, worker.killed_for or reason) from None
        finally:
            self._busy.discard(worker)
            if finished and worker.is_alive and not self._closed:
                self._free.append(worker)
                self._end_when_idle()
            else:
                self._retire(worker)

    def _counted(self, function: str, reason: str) -> WorkerKilled:
        if reason != "closed":
            self.killed[function, reason] += 1
            _LOG.warning("worker.killed", pool=self.name, work=function, reason=reason)
        return WorkerKilled(function, reason)

    async def _prepare(self, worker: Worker, function: str) -> None:
        """Import the function, which is no part of its work's time."""
        async with asyncio.timeout(_START_S):
            await worker.call(msgspec.msgpack.encode((function, None)))

    async def _call(self, worker: Worker, request: bytes, limit_s: float) -> bytes:
        try:
            async with asyncio.timeout(limit_s):
                return await worker.call(request)
        except TimeoutError:
            worker.kill("deadline")
            raise

    async def _started(self) -> Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from understudy.workers.process import main; main()",
            str(self.limits.memory_mb),
            str(self.limits.deadline_s),
            self._package,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(os.environ),
            start_new_session=True,
            creationflags=_NEW_GROUP,
        )
        return Worker(process)

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch_memory(), name="worker memory")

    async def _watch_memory(self) -> None:
        """While work is done, kill children that use too much memory."""
        while self._busy:
            used = {worker: worker.memory_mb() for worker in (*self._busy, *self._free)}
            for worker, size_mb in used.items():
                if size_mb > self.limits.memory_mb:
                    worker.kill("memory")
            if sum(used.values()) > self.limits.together_mb:
                max(used, key=used.__getitem__).kill("memory")
            await asyncio.sleep(_WATCH_S)

    def _end_when_idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(self.limits.idle_s, self._end_idle)

    def _end_idle(self) -> None:
        while self._free:
            self._retire(self._free.pop())

    def _retire(self, worker: Worker) -> None:
        worker.kill("closed")
        task = asyncio.get_running_loop().create_task(worker.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


# Ctrl-C on a terminal goes to the whole process group; a child must not get it.
_NEW_GROUP = int(getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Without keys and tokens."""
    return {name: value for name, value in environ.items() if name.upper() in _PASSED_ON}
