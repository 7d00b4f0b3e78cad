"""One request on its way through the candidates: what was tried, what is visible, what is next."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from understudy.errors import ErrorClass, ProviderError
from understudy.llm.messages import ReplyIdentity
from understudy.routing.attempt import Attempt
from understudy.routing.attempt_outcome import Evaluation, Progress, evaluate, is_empty, succeeded
from understudy.routing.candidate_queue import CandidateQueue
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment, RouterRules
from understudy.routing.failure_policy import offline_reason
from understudy.routing.recorder import Offline, Recorder
from understudy.routing.records import (
    AttemptRecord,
    AttemptRole,
    NextStep,
    OfflineReason,
    ReplyOutcome,
    ReplyRecord,
    SkipReason,
)
from understudy.routing.request import Answering, ReplyEnded, ReplyRequest, ReplySink, SinkKind
from understudy.routing.retries import RetryPlan, backoff_s
from understudy.routing.router_state import RouterState
from understudy.routing.selection import AttemptPlan, Skip

_MOST_RETRIES = 2
"""Per request; one per candidate."""
_BUSY_RETRY_S = 5.0
"""When to come back after all queues were full."""


@dataclass(slots=True, eq=False)
class RequestRun:
    """Tries the candidates of one request. All that changes with the request is in here."""

    request: ReplyRequest
    sink: ReplySink
    candidates: Sequence[Candidate]
    state: RouterState
    env: RouterEnvironment
    rules: RouterRules

    _recorder: Recorder = field(init=False)
    _started: float = field(init=False)
    _silent_since: float = field(init=False)
    _records: list[AttemptRecord] = field(default_factory=list)
    _tries: int = 0
    _queue: CandidateQueue = field(init=False)
    _restarting: bool = False
    _retry: RetryPlan | None = None
    _retried: list[Candidate] = field(default_factory=list)
    _failures: list[Attempt] = field(default_factory=list)
    _partials: list[Attempt] = field(default_factory=list)
    """Those whose visible text was interrupted."""
    _running: Attempt | None = None
    _winner: Attempt | None = None
    _empty: tuple[Attempt, AttemptRecord] | None = None
    """The first complete answer of a server that had no text."""
    _backed_off: bool = False
    _stopped: bool = False
    _over: bool = False
    _has_output: bool = False
    _first_visible: float | None = None

    def __post_init__(self) -> None:
        of_max = self.rules.max_attempts or len(self.candidates) + 2
        self._recorder = Recorder(self.request, self.env, of_max, self.rules.config_rev)
        self._started = self._silent_since = self.env.clock()
        self._queue = CandidateQueue(self.candidates, self.request, self.state, self.env)

    async def run(self) -> ReplyEnded:
        """Make attempts until one answers or none is left. Cancelling it leaves its records."""
        try:
            while self._winner is None and (plan := await self._next()) is not None:
                await self._attempt(plan)
            if self._winner is None:
                await self._deliver_empty()
            return self._end()
        finally:
            if not self._over:
                self._abandon()

    # What an attempt asks of its request.

    @property
    def committed(self) -> bool:
        if not self._has_output:
            return False
        return self.sink.kind is SinkKind.APPEND_ONLY or self.sink.is_visible()

    def begin_output(self, candidate: Candidate, identity: ReplyIdentity) -> None:
        if self._has_output:
            self.sink.restart()
        self._has_output = True
        self.sink.start(
            Answering(
                candidate.provider,
                candidate.label,
                candidate.model,
                len(self._records) + 1,
                self._tries,
                identity,
            )
        )

    # What the planning of an attempt asks.

    def remaining_s(self, now: float) -> float:
        """Until the next attempt's text must be visible; an interrupted text starts it again."""
        deadline = self.rules.deadline
        until = self._silent_since + deadline.commit_s
        end = self._started + deadline.total_s
        return (min(until, end)) - now

    def total_s(self, now: float) -> float:
        return self._started + self.rules.deadline.total_s - now

    def usable_later(self, now: float) -> int:
        queue = self._queue
        return queue.usable(now) if queue.waiting or queue.without_vision else 0

    # Selection.

    async def _next(self) -> AttemptPlan | None:
        """Return the next attempt to make; skipped candidates are recorded on the way."""
        queue = self._queue
        while not self._is_decided and self.remaining_s(self.env.clock()) > 0:
            if self._retry is not None:
                retry, self._retry = self._retry, None
                await asyncio.sleep(retry.wait_s)
                plan = await self._plan(retry.candidate, retry)
            elif queue.waiting:
                plan = await self._plan(queue.waiting.popleft(), None)
            elif not (await queue.refill(self.remaining_s) or self._plan_backoff()):
                return None
            else:
                continue
            if plan is not None:
                return plan
        return None

    @property
    def _is_decided(self) -> bool:
        return self._stopped or len(self._failures) >= self._recorder.of_max

    async def _plan(self, candidate: Candidate, retry: RetryPlan | None) -> AttemptPlan | None:
        plan = await self._queue.selection.plan(candidate, retry, self, self._echoes())
        if isinstance(plan, Skip):
            self._skip(candidate, plan)
            return None
        if plan is not None and self._restarting and retry is None:
            return msgspec.structs.replace(plan, role=AttemptRole.RESTART)
        return plan

    def _echoes(self) -> tuple[str, ...]:
        """Texts that are no reply; an echo is refused once, for some requests ask for one."""
        if self._failures and any(failed.echoed for failed in self._failures):
            return ()
        request = self.request
        if not (request.last_user_text or request.previous_reply):
            return ()
        return (request.last_user_text, request.previous_reply)

    def _skip(self, candidate: Candidate, skip: Skip) -> None:
        if self._queue.postpone(candidate, skip.reason):
            self._add(self._recorder.skipped(candidate, skip, len(self._records) + 1))

    def _plan_backoff(self) -> bool:
        """Try the last candidate that failed for a transient cause once more, after a wait."""
        if self._restarting or self._backed_off:
            return False
        now = self.env.clock()
        for failed in reversed(self._failures):
            candidate = failed.plan.candidate
            if failed.failure is None or not self._may_retry(candidate):
                continue
            wait = backoff_s(
                failed.failure, dice=self.env.random.random(), remaining_s=self.remaining_s(now)
            )
            if wait is not None and self.state.pacing.may_retry(now):
                self._backed_off = True
                self._schedule(RetryPlan(candidate, AttemptRole.BACKOFF_RETRY, wait_s=wait))
                return True
        return False

    def _may_retry(self, candidate: Candidate) -> bool:
        return len(self._retried) < _MOST_RETRIES and candidate not in self._retried

    def _schedule(self, retry: RetryPlan) -> None:
        self._retried.append(retry.candidate)
        self._retry = retry

    # Attempts.

    async def _attempt(self, plan: AttemptPlan) -> None:
        attempt = Attempt(plan, self.request, self.sink, self, self.env.clock)
        self._running = attempt
        self._tries += 1
        running, key = self.state.running, plan.candidate.key
        running[key] += 1
        try:
            await attempt.run()
        finally:
            running[key] -= 1
        self._running = None
        if self._first_visible is None:
            self._first_visible = attempt.first_visible
        if attempt.failure is None:
            self._succeed(attempt)
        else:
            self._fail(attempt, attempt.failure)

    def _succeed(self, attempt: Attempt) -> None:
        self._winner = attempt
        evaluation = succeeded(attempt, self.state, self.env)
        self._record(attempt, evaluation, NextStep.DELIVER, committed=self.committed)

    def _fail(self, attempt: Attempt, error: ProviderError) -> None:
        self._note_end(attempt)
        progress = self._progress(attempt)
        evaluation = evaluate(attempt, error, progress, self.state, self.env, self.rules)
        self._apply(attempt, evaluation)
        record = self._record(attempt, evaluation, self._step(), committed=progress.partial)
        if self._empty is None and is_empty(attempt):
            self._empty = attempt, record

    def _record(
        self, attempt: Attempt, evaluation: Evaluation, step: NextStep, *, committed: bool
    ) -> AttemptRecord:
        number = len(self._records) + 1
        record = self._recorder.attempted(attempt, evaluation, step, number, committed=committed)
        self._add(record)
        return record

    def _note_end(self, attempt: Attempt) -> None:
        self._failures.append(attempt)
        if attempt.first_visible is not None and attempt.ended is not None:
            self._silent_since = attempt.ended
        if attempt.yielded and self.committed:
            self._partials.append(attempt)

    def _progress(self, attempt: Attempt) -> Progress:
        return Progress(
            self.request,
            self.sink.kind,
            attempt in self._partials,
            len(self._partials),
            tuple(self._failures),
            self.total_s(self.env.clock()),
            self._may_retry(attempt.plan.candidate),
            is_last=self._queue.is_last,
        )

    def _apply(self, attempt: Attempt, evaluation: Evaluation) -> None:
        if evaluation.set_aside:
            self._queue.without_vision.append(attempt.plan.candidate)
        self._stopped = evaluation.stop
        if attempt in self._partials:
            self._restarting = evaluation.restart
        if evaluation.retry is not None:
            self._schedule(evaluation.retry)

    def _step(self) -> NextStep:
        if self._stopped:
            return NextStep.STOP
        if self._retry is not None:
            return NextStep.RETRY
        return NextStep.FAILOVER if self._queue.has_more else NextStep.STOP

    def _add(self, record: AttemptRecord) -> None:
        self._records.append(record)
        self.sink.attempt_ended(record)

    # The end.

    async def _deliver_empty(self) -> None:
        """Give a client that writes its own prompts the empty answer, where there is no other."""
        if self._empty is None or self._winner or self._partials or self.request.may_trim_prompt:
            return
        attempt, _ = self._empty
        self._winner = attempt
        self.begin_output(attempt.plan.candidate, attempt.exchange.identity)
        for output in attempt.unreleased():
            self.sink.write(output)
        await self.sink.flush()

    def _end(self) -> ReplyEnded:
        winner = self._winner
        if winner is not None:
            return ReplyEnded(
                self._close(ReplyOutcome.DELIVERED, winner=self._empty if winner.failure else None),
                winner.text,
                winner.finish_reason,
                None,
                winner.plan.prompt.degraded,
                winner.last_frames,
                winner.exchange.identity,
            )
        error_class = self._failures[-1].error_class if self._failures else None
        if self._partials:
            record = self._close(ReplyOutcome.PARTIAL)
            best = max(self._partials, key=_worth)
            return ReplyEnded(record, best.text, None, error_class)
        offline = self._offline()
        rejected = offline.reason is OfflineReason.REJECTED
        outcome = ReplyOutcome.REJECTED if rejected else ReplyOutcome.OFFLINE
        return ReplyEnded(self._close(outcome, offline), error_class=error_class)

    def _abandon(self) -> None:
        """Record a request that was cancelled; that says nothing about the candidate."""
        attempt = self._running
        if attempt is not None:
            self.state.board.release(attempt.plan.probes)
            record = self._recorder.attempted(
                attempt,
                Evaluation(),
                NextStep.STOP,
                len(self._records) + 1,
                committed=self.committed,
            )
            self._records.append(record)
        self._close(ReplyOutcome.CANCELLED)

    def _close(
        self,
        outcome: ReplyOutcome,
        offline: Offline | None = None,
        winner: tuple[Attempt, AttemptRecord] | None = None,
    ) -> ReplyRecord:
        self._over = True
        return self._recorder.reply(
            outcome,
            tuple(self._records),
            started=self._started,
            first_visible=self._first_visible,
            offline=offline,
            winner=None if winner is None else winner[1],
        )

    def _offline(self) -> Offline:
        now = self.env.clock()
        over = self.total_s(now) <= 0
        reason = offline_reason(
            self._records,
            out_of_time=over or self.remaining_s(now) <= 0,
            # The end of the time stops a request too, and that is not its fault.
            at_fault=self._stopped and not over,
        )
        if reason is OfflineReason.BUSY:
            return Offline(reason, self.env.wall() + _BUSY_RETRY_S)
        if reason is OfflineReason.DEADLINE:
            # A candidate that there was no time for may be free, whatever holds the others.
            return Offline(reason, None)
        recovery = self._queue.selection.soonest(self.candidates, now)
        times = [] if recovery is None else [recovery]
        times += [
            a.held_until
            for a in self._records
            if a.skip_reason is SkipReason.BUDGET and a.held_until
        ]
        return Offline(reason, min(times, default=None))


def _worth(part: Attempt) -> tuple[bool, int]:
    """Prefer a longer part, and any to one that was garbled."""
    return part.error_class is not ErrorClass.GARBAGE, len(part.text)
