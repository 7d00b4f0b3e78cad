"""One attempt: sends the request, enforces its time limits, lets the sink send what came."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

import structlog

from understudy.errors import ErrorClass, ProviderError, Unreachable
from understudy.llm.client import Phase
from understudy.routing.attempt_output import AttemptOutput
from understudy.routing.fair_queue import FairQueue
from understudy.routing.records import BreakerChange
from understudy.routing.timeouts import Budget, SharedTimer

_log = structlog.get_logger()
_CONNECT = Phase.CONNECT


@dataclass(slots=True, eq=False)
class Attempt(AttemptOutput):
    """One HTTP request to one candidate. All mutable state of an attempt is in here."""

    ended: float | None = None
    failure: ProviderError | None = None
    """Why it failed; `None` once it has ended well."""
    text: str = ""
    """All that is visible, once it has ended."""
    cancelled: bool = False
    queued_s: float = 0.0
    breaker: BreakerChange | None = None
    """What it did to a cooldown of its candidate."""
    held_until: float | None = None
    """Wall clock until which its candidate is in a cooldown."""

    _budget: Budget = field(init=False)
    _timer: SharedTimer | None = None
    _resumed: float = 0.0
    """When the sink had sent all; before that, time counts against no limit."""
    _place: FairQueue | None = None
    """The queue in which it has a place."""

    @property
    def error_class(self) -> ErrorClass | None:
        return None if self.failure is None else self.failure.error_class

    def start(self) -> None:
        """Send the request, where the server's queue has a place; else `wait` waits for one.

        Then `wait`, as long as it is not `over` or something is `written`; `failure` says how it
        ended.
        """
        queue = self.plan.queue
        if queue is None or queue.try_acquire():
            self._place = queue
            self._send()

    def wait(self) -> Awaitable[None]:
        """Return what the task of the request has to wait for now."""
        if self.written:
            return self._flush()
        queue = self.plan.queue
        if queue is not None and self._place is None:
            return self._queue_up(queue)
        assert self._timer is not None
        self._wake = self._timer.loop.create_future()
        return self._wake

    def cancel(self) -> None:
        """Give it up, and close its connection."""
        self.cancelled = True
        if not self.over:
            self._end(None, self.clock())

    # As the receiver of the reply's events.

    def failed(self, error: ProviderError) -> None:
        if self.over:
            return
        if error.error_class is ErrorClass.INTERNAL:
            _log.error("router.internal_error", error=error.detail)
        elif error.error_class is ErrorClass.RESPONSE_TOO_LARGE and self.yielded:
            self.finish_reason = "length"
            self._end(None, self.clock())
            return
        self._end(error, self.clock())

    # Internal.

    async def _queue_up(self, queue: FairQueue) -> None:
        """Wait for a place; the last candidate may as well wait: there is no other."""
        budget = self.plan.budget
        wait_s = budget.visible_s if budget.is_last else self.plan.candidate.limits.queue_s
        try:
            await queue.acquire(self.request.queue_key, wait_s)
        except ProviderError as error:
            self._end(error, self.clock())
            return
        now = self.clock()
        self.queued_s, self.started, self.last_useful = now - self.started, now, now
        self._place = queue
        self._send()

    def _send(self) -> None:
        """Start the timer, and send the request; a request that cannot be sent has failed."""
        candidate, budget = self.plan.candidate, self.plan.budget
        if self.queued_s:
            budget = budget.after(self.queued_s)
        if budget.check_s <= 0:
            self._end(Unreachable(ErrorClass.QUEUE_TIMEOUT), self.clock())
            return
        self._budget = budget
        self._timer = self.timers.watch(self, self.started, budget.check_s)
        self.exchange.phase = _CONNECT
        try:
            self._generation = candidate.client.start(
                self.plan.prompt.request, candidate.model, self.exchange, self
            )
        except ProviderError as error:
            self._end(error, self.clock())
        except Exception as error:  # noqa: BLE001
            # A bug in one engine's client must not end the reply.
            _log.error("router.internal_error", error=type(error).__name__, exc_info=True)
            self._end(Unreachable(ErrorClass.INTERNAL), self.clock())

    async def _flush(self) -> None:
        """Let the sink send. Only time spent waiting for the model counts, so nothing expires."""
        self.written, self._sending, self._unsent = False, True, 0
        await self.sink.flush()
        self._sending = False
        if self.over:
            return
        self._resumed = self.clock()
        if self._timer is None:
            # A limit may have passed meanwhile.
            self.check()
        if self._paused and self._generation is not None:
            self._paused = False
            self._generation.resume_reading()

    def check(self) -> None:
        """End the attempt if a limit has passed, or check again at the next one.

        Output that comes does not move the timer: what came is looked at here.
        """
        self._timer = None
        if self._sending:
            return
        now = self.clock()
        due, limit = self._next_limit()
        if due <= now:
            self._end(Unreachable(limit), now)
            return
        wait_s = due - now
        if self.first_output is None:
            wait_s = min(wait_s, self._budget.idle_s)
        self._timer = SharedTimer(wait_s, asyncio.get_running_loop())
        self._timer.join(self, now)

    def _next_limit(self) -> tuple[float, ErrorClass]:
        budget, whole_s = self._budget, self._budget.total_s
        if self.first_visible is None and budget.visible_s < whole_s:
            whole_s = budget.visible_s
        if self.first_output is None:
            due, limit = self.started + budget.first_token_s, ErrorClass.FIRST_TOKEN_TIMEOUT
        else:
            useful_at = max(self.last_useful, self._resumed)
            due, limit = useful_at + budget.idle_s, ErrorClass.IDLE_TIMEOUT
        # Of two that end together the more precise one is named.
        if due <= self.started + whole_s:
            return due, limit
        return self.started + whole_s, ErrorClass.TOTAL_TIMEOUT

    def _end(self, error: ProviderError | None, now: float) -> None:
        """The first call decides how it ended; closes what is open."""
        if self.over:
            return
        self.over = True
        self.failure, self.ended = error, now
        self.text = "".join(self._texts)
        if self._timer is not None:
            self._timer.waiting.pop(self, None)
        if self._generation is not None:
            self._generation.close()
        # They refer to this attempt: cycles that only the garbage collector would free.
        self._timer = self._generation = self.owner = None
        if self._place is not None:
            self._place.release()
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
