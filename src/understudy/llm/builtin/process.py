"""Starts, watches and ends the process of one built-in model."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
import structlog

from understudy.errors import NOT_JSON, ErrorClass
from understudy.llm.builtin.launch import Failure, Launch, Ready, Report

_LOG = structlog.get_logger()
_COMMAND = ("-P", "-m", "understudy.llm.builtin.child")
"""`-P`: no module is taken from the folder the bot was started in."""
_LOAD_S = 600.0
_END_S = 2.0
_LAST_LINES = 20
_PASSIVE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""llama.cpp's threads wait for each other several hundred times per token. Where they spin, any
other program on the same cores makes it ten times slower (2 cores: 4 tokens/s instead of 50)."""
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_NO_MEMORY = ("failed to allocate", "unable to allocate", "bad_alloc", "cannot allocate memory")


class LoadFailed(Exception):
    """A model could not be loaded."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class ModelProcess:
    """One process that has loaded its model and listens."""

    def __init__(self, process: Process, url: str, key: str, said: deque[str]) -> None:
        self.said = said
        """The last lines it printed."""
        self.url = url
        self.key = key
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self, limit_s: float) -> int | None:
        """The exit code once it has ended, or `None` after `limit_s`."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._process.wait()
        except TimeoutError:
            return None


@asynccontextmanager
async def model_process(launch: Launch, key: str) -> AsyncGenerator[ModelProcess]:
    """Load a model in a process of its own, which ends with the block. Raises LoadFailed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *_COMMAND,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=_environment(),
        # Ctrl-C is for the bot, which lets running replies end first.
        start_new_session=os.name == "posix",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    said: deque[str] = deque(maxlen=_LAST_LINES)
    reading = asyncio.create_task(_read(process, said), name="builtin-output")
    try:
        url = await _load(process, msgspec.structs.replace(launch, key=key), said)
        yield ModelProcess(process, url, key, said)
    finally:
        await _end(process)
        reading.cancel()
        await asyncio.wait({reading})


async def _load(process: Process, launch: Launch, said: deque[str]) -> str:
    """The address it listens at."""
    assert process.stdin is not None
    assert process.stdout is not None
    line = b""
    with contextlib.suppress(ConnectionError):
        process.stdin.write(msgspec.json.encode(launch) + b"\n")
        await process.stdin.drain()
    try:
        async with asyncio.timeout(_LOAD_S):
            line = await process.stdout.readline()
    except TimeoutError:
        text = f"the model was not loaded within {_LOAD_S:.0f} s"
        raise LoadFailed(Failure(ErrorClass.SERVER_ERROR, text)) from None
    report = _report(line)
    if isinstance(report, Ready):
        return report.url
    code = await process.wait()
    raise LoadFailed(_explained(report, said) if report else crash(code, said))


def crash(code: int, said: deque[str]) -> Failure:
    """What an unexpected end most likely means."""
    if any(phrase in line.lower() for line in said for phrase in _NO_MEMORY):
        return Failure(ErrorClass.OVERLOADED, "memory ran out")
    if code == -getattr(signal, "SIGKILL", 9):
        text = "the model's process was killed, most likely because memory ran out"
        return Failure(ErrorClass.OVERLOADED, text)
    return Failure(ErrorClass.SERVER_ERROR, f"the model's process ended with code {code}")


def _explained(failure: Failure, said: deque[str]) -> Failure:
    """With llama.cpp's own reason, where it printed one."""
    for line in said:
        _, marker, reason = line.partition("error loading model: ")
        if marker:
            return msgspec.structs.replace(failure, text=f"{failure.text}: {reason.strip()}")
    return failure


def _report(line: bytes) -> Report | None:
    try:
        report: Report = msgspec.json.decode(line, type=Report)
    except NOT_JSON:
        return None
    return report


async def _read(process: Process, said: deque[str]) -> None:
    """Keep the last lines it prints, so that its pipe never fills up."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        said.append(line.decode("utf-8", "replace").rstrip())
        _LOG.debug("builtin.output", line=said[-1])


async def _end(process: Process) -> None:
    """Ask it to end, then make it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """Without the secrets of the bot, which the model needs none of."""
    return _PASSIVE | {
        name: value
        for name, value in os.environ.items()
        if not any(word in name.upper() for word in _SECRET_WORDS)
    }
