"""One built-in model: loads on first use, is watched, restarts after a crash, ends when idle."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, StrEnum

import structlog

from understudy.errors import ErrorClass, ModelFileError, ProviderError, RateLimited
from understudy.llm.builtin.launch import Failure
from understudy.llm.builtin.options import BuiltinOptions, LoadPlan
from understudy.llm.builtin.process import LoadFailed, ModelProcess, crash, model_process

_LOG = structlog.get_logger()
_LOOK_S = 1.0
_HEALTH_S = 10.0
_SICK_CHECKS = 3
_CALM_S = 60.0
"""A process that lasted so long has not failed at starting."""
_LONGEST_BACKOFF_S = 60.0
_QUICK_RESTARTS = 2
"""Without a pause."""
_RETRY_LOAD_S = 15.0
"""After a failed load: a file that is being copied, or memory that is free again."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where one process listens, and the key it wants."""

    url: str
    key: str


class ServerState(StrEnum):
    STOPPED = "stopped"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class _Ended(Enum):
    CRASHED = "crashed"
    UNHEALTHY = "unhealthy"
    MEMORY = "memory"
    IDLE = "idle"
    RETIRED = "retired"


CheckHealth = Callable[[Address], Awaitable[bool]]
ReadMemory = Callable[[int], int]
"""The memory of a process in bytes, 0 where it is unknown."""


class BuiltinServer:
    """Owns the task that keeps one model loaded. Made and closed by `BuiltinServers`."""

    def __init__(
        self,
        options: BuiltinOptions,
        plan: Callable[[], LoadPlan],
        *,
        is_healthy: CheckHealth,
        memory_of: ReadMemory,
        clock: Callable[[], float],
    ) -> None:
        self.state = ServerState.STOPPED
        self.failure: Failure | None = None
        """Why it is not there, while it is not."""
        self.address: Address | None = None
        """While it is ready."""
        self.retired = False
        """Whether to end it once no reply runs on it."""
        self._options = options
        self._plan = plan
        self._is_healthy = is_healthy
        self._memory_of = memory_of
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._running = 0
        self._last_used = clock()
        self._retry_at = float("-inf")

    @asynccontextmanager
    async def serving(self, *, may_wait: bool) -> AsyncGenerator[Address]:
        """Keep the model loaded within the block; it begins to load where it is not.

        While it loads the caller waits, or with `may_wait` False gets `loading` at once. Raises
        ProviderError.
        """
        address = await self._ready(may_wait=may_wait)
        self._running += 1
        try:
            yield address
        finally:
            self._running -= 1
            self._last_used = self._clock()

    async def plan(self) -> LoadPlan:
        """What a load would take. Raises ModelFileError."""
        return await asyncio.to_thread(self._plan)

    def start(self) -> None:
        """Begin to load, unless that was begun, or failed a moment ago."""
        busy = self._task is not None and not self._task.done()
        if busy or self._clock() < self._retry_at:
            return
        self._set(ServerState.LOADING)
        self._task = asyncio.create_task(self._keep_loaded(), name="builtin-server")

    async def aclose(self) -> None:
        """End the process now."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _ready(self, *, may_wait: bool) -> Address:
        while True:
            if self.address is not None:
                return self.address
            self.start()
            if not may_wait or self._task is None or self._task.done():
                raise self._unavailable()
            await self._changed.wait()

    def _unavailable(self) -> ProviderError:
        if self.failure is None:
            return RateLimited(ErrorClass.LOADING)
        # A file that was missing a moment ago may be there soon; the usual cooldown is 30 minutes.
        wait_s = self._retry_at - self._clock()
        return self.failure.error(wait_s if wait_s > 0 else None)

    def _set(self, state: ServerState, failure: Failure | None = None) -> None:
        self.state = state
        self.failure = failure
        self.address = None if state is not ServerState.READY else self.address
        self._changed.set()
        self._changed = asyncio.Event()

    async def _keep_loaded(self) -> None:
        """Load, watch, load again, until it is idle, retired or cannot be loaded."""
        crashes = 0
        try:
            while True:
                began = self._clock()
                ended = await self._load_once()
                if ended in (_Ended.IDLE, _Ended.RETIRED):
                    self._set(ServerState.STOPPED)
                    return
                crashes = 0 if self._clock() - began > _CALM_S else crashes + 1
                if crashes > _QUICK_RESTARTS:
                    pause_s = 2.0 ** (crashes - _QUICK_RESTARTS - 1)
                    await asyncio.sleep(min(pause_s, _LONGEST_BACKOFF_S))
                self._set(ServerState.LOADING)
        except LoadFailed as failed:
            self._fail(failed.failure)
        except ModelFileError as error:
            self._fail(Failure(ErrorClass.MODEL_GONE, str(error)))
        except OSError as error:
            text = f"the model's process cannot be started: {error.strerror}"
            self._fail(Failure(ErrorClass.SERVER_ERROR, text))
        except asyncio.CancelledError:
            self._set(ServerState.STOPPED)
            raise

    def _fail(self, failure: Failure) -> None:
        self._retry_at = self._clock() + _RETRY_LOAD_S
        self._set(ServerState.FAILED, failure)
        _LOG.error("builtin.failed", model=self._options.model, reason=failure.text)

    async def _load_once(self) -> _Ended:
        plan = await self.plan()
        key = secrets.token_urlsafe(32)
        began = self._clock()
        _LOG.info("builtin.loading", model=plan.launch.alias)
        async with model_process(plan.launch, key) as process:
            self.address = Address(process.url, key)
            self._last_used = self._clock()
            self._set(ServerState.READY)
            _LOG.info(
                "builtin.ready",
                model=plan.launch.alias,
                seconds=round(self._clock() - began, 3),
                memory_bytes=self._memory_of(process.pid),
            )
            ended = await self._watch(process, plan)
            self._note_end(plan, ended)
            return ended

    def _note_end(self, plan: LoadPlan, ended: _Ended) -> None:
        """Take no more replies, before the process is gone."""
        failure: Failure | None
        if ended is _Ended.MEMORY:
            limit = plan.memory_limit_bytes / 1e6
            failure = Failure(ErrorClass.OVERLOADED, f"it took more than {limit:.0f} MB of memory")
        elif ended is _Ended.UNHEALTHY:
            failure = Failure(ErrorClass.SERVER_ERROR, "it stopped answering")
        else:
            failure = self.failure
        self._set(ServerState.FAILED, failure)
        quiet = ended in (_Ended.IDLE, _Ended.RETIRED)
        log = _LOG.info if quiet else _LOG.warning
        reason = ended.value if failure is None else failure.text
        log("builtin.ended", model=plan.launch.alias, cause=ended.value, reason=reason)

    async def _watch(self, process: ModelProcess, plan: LoadPlan) -> _Ended:
        address = Address(process.url, process.key)
        next_check, sick = self._clock() + _HEALTH_S, 0
        while True:
            code = await process.wait(_LOOK_S)
            if code is not None:
                self.failure = crash(code, process.said)
                return _Ended.CRASHED
            if self._memory_of(process.pid) > plan.memory_limit_bytes:
                return _Ended.MEMORY
            if self._running == 0 and (over := self._unused()) is not None:
                return over
            if self._clock() >= next_check:
                sick = 0 if await self._is_healthy(address) else sick + 1
                next_check = self._clock() + _HEALTH_S
                if sick >= _SICK_CHECKS:
                    return _Ended.UNHEALTHY

    def _unused(self) -> _Ended | None:
        if self.retired:
            return _Ended.RETIRED
        minutes = self._options.idle_unload_minutes
        if minutes is not None and self._clock() - self._last_used > minutes * 60:
            return _Ended.IDLE
        return None
