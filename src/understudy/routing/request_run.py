"""One request on its way through the candidates: what was tried, what is visible, what is next."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from understudy.errors import ErrorClass, ProviderError
from understudy.llm.messages import ReplyIdentity, UsageSource
from understudy.routing.attempt import Attempt
from understudy.routing.attempt_outcome import (
    Evaluation,
    Progress,
    evaluate,
    is_empty,
    learn_template,
)
from understudy.routing.candidate_queue import CandidateQueue
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment, RouterRules
from understudy.routing.failure_policy import offline_reason
from understudy.routing.prompt_fitting import Overflow, PromptPlan, fit_prompt, learn_ratio
from understudy.routing.recorder import Offline, Recorder
from understudy.routing.records import (
    AttemptRecord,
    AttemptRole,
    NextStep,
    OfflineReason,
    ReplyOutcome,
    ReplyRecord,
)
from understudy.routing.request import (
    Answering,
    Prompt,
    ReplyEnded,
    ReplyRequest,
    ReplySink,
    SinkKind,
)
from understudy.routing.retries import RetryPlan, backoff_s
from understudy.routing.router_state import RouterState
from understudy.routing.selection import AttemptPlan, Selection, Skip

# Read for each reply: looking up the member of an enum takes longer than a call.
_HELD, _APPEND_ONLY = SinkKind.HELD, SinkKind.APPEND_ONLY
_DELIVER, _DELIVERED = NextStep.DELIVER, ReplyOutcome.DELIVERED
_REPORTED = UsageSource.REPORTED
_MOST_RETRIES = 2
"""Per request; one per candidate."""


class RouterParts(msgspec.Struct, frozen=True):
    """What all requests of one router share."""

    state: RouterState
    env: RouterEnvironment
    rules: RouterRules
    selection: Selection
    recorder: Recorder


@dataclass(slots=True, eq=False)
class RequestRun:
    """Tries the candidates of one request. All that changes with the request is in here."""

    request: ReplyRequest
    sink: ReplySink
    candidates: Sequence[Candidate]
    parts: RouterParts
    queue: CandidateQueue
    of_max: int
    started: float

    _silent_since: float = field(init=False)
    _records: tuple[AttemptRecord, ...] = ()
    _tries: int = 0
    _fitted: tuple[PromptPlan, Prompt | Overflow] | None = None
    """A prompt that was counted for the attempt to plan next."""
    _restarting: bool = False
    _retry: RetryPlan | None = None
    _retried: tuple[Candidate, ...] = ()
    _failures: tuple[Attempt, ...] = ()
    _partials: tuple[Attempt, ...] = ()
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

    async def run(self) -> ReplyEnded:
        """Make attempts until one answers or none is left. Cancelling it leaves its records."""
        now = self._silent_since = self.started
        try:
            while self._winner is None and (step := self._next(now)) is not None:
                if isinstance(step, AttemptPlan):
                    attempt = self._begin(step)
                    while attempt.written or not attempt.over:
                        await attempt.wait()
                    self._finish(attempt)
                else:
                    await step
                now = self.parts.env.clock()
            if self._winner is None and await self._deliver_empty():
                now = self.parts.env.clock()
            return self._end(now)
        finally:
            if not self._over:
                self._abandon()

    # What an attempt asks of its request.

    def committed(self) -> bool:
        kind = self.sink.kind
        if not self._has_output or kind is _HELD:
            return False
        return kind is _APPEND_ONLY or self.sink.is_visible()

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
        until_s = self.parts.rules.deadline.commit_s - (now - self._silent_since)
        return min(until_s, self.total_s(now))

    def total_s(self, now: float) -> float:
        return self.parts.rules.deadline.total_s - (now - self.started)

    def echoes(self) -> tuple[str, ...]:
        """Texts that are no reply; an echo is refused once, for some requests ask for one."""
        if any(failed.echoed for failed in self._failures):
            return ()
        return (self.request.last_user_text, self.request.previous_reply)

    # Selection.

    def _next(self, now: float) -> AttemptPlan | Awaitable[None] | None:
        """Return the next attempt to make, or what to wait for before it; `None`: there is none.
        Skipped candidates are recorded on the way."""
        queue, parts = self.queue, self.parts
        while not self._stopped and len(self._failures) < self.of_max:
            if now != self.started and self.remaining_s(now) <= 0:
                return None
            if self._fitted is not None or self._retry is not None or queue.waiting:
                step = self._plan(now)
                if step is not None:
                    return step
                continue
            wait_s = queue.refill(parts.state, now, self.remaining_s(now))
            if wait_s:
                return asyncio.sleep(wait_s)
            if wait_s is None and not self._plan_backoff(now):
                return None
        return None

    def _plan(self, now: float) -> AttemptPlan | Awaitable[None] | None:
        """Plan an attempt at the next candidate; `None` where it is skipped."""
        fitted, retry = self._fitted, self._retry
        self._fitted = self._retry = None
        prompt = None
        if fitted is not None:
            (prompts, prompt), retry = fitted, fitted[0].retry
            candidate = prompts.candidate
        elif retry is None:
            candidate = self.queue.waiting.popleft()
        elif retry.wait_s:
            return self._pause(retry)
        else:
            candidate = retry.candidate
        plan = self.parts.selection.plan(candidate, retry, self, now, prompt)
        if isinstance(plan, AttemptPlan):
            if self._restarting and retry is None:
                return msgspec.structs.replace(plan, role=AttemptRole.RESTART)
            return plan
        if isinstance(plan, PromptPlan):
            return self._fit(plan)
        self._skip(candidate, plan)
        return None

    async def _pause(self, retry: RetryPlan) -> None:
        await asyncio.sleep(retry.wait_s)
        self._retry = replace(retry, wait_s=0.0)

    async def _fit(self, plan: PromptPlan) -> None:
        self._fitted = plan, await fit_prompt(plan, self.parts.state.book)

    def _skip(self, candidate: Candidate, skip: Skip) -> None:
        if self.queue.postpone(candidate, skip.reason):
            number, recorder = len(self._records) + 1, self.parts.recorder
            record = recorder.skipped(candidate, skip, self.request, number, self.of_max)
            self._records += (record,)
            self.sink.attempt_ended(record)

    def _plan_backoff(self, now: float) -> bool:
        """Try the last candidate that failed for a transient cause once more, after a wait."""
        if self._restarting or self._backed_off:
            return False
        remaining_s, dice = self.remaining_s(now), self.parts.env.random.random
        for failed in reversed(self._failures):
            candidate = failed.plan.candidate
            if failed.failure is None or not self._may_retry(candidate):
                continue
            wait_s = backoff_s(failed.failure, dice=dice(), remaining_s=remaining_s)
            if wait_s is not None and self.parts.state.pacing.may_retry(now):
                self._backed_off = True
                self._schedule(RetryPlan(candidate, AttemptRole.BACKOFF_RETRY, wait_s))
                return True
        return False

    def _may_retry(self, candidate: Candidate) -> bool:
        return len(self._retried) < _MOST_RETRIES and candidate not in self._retried

    def _schedule(self, retry: RetryPlan) -> None:
        self._retried += (retry.candidate,)
        self._retry = retry

    # Attempts.

    def _begin(self, plan: AttemptPlan) -> Attempt:
        parts, number = self.parts, len(self._records) + 1
        clock, timers = parts.env.clock, parts.state.timers
        attempt = Attempt(plan, self.request, self.sink, self, clock, timers, number)
        self._running = attempt
        self._tries += 1
        parts.state.attempts[attempt] = plan.candidate.key
        attempt.start()
        return attempt

    def _finish(self, attempt: Attempt) -> None:
        self._running = None
        del self.parts.state.attempts[attempt]
        if self._first_visible is None:
            self._first_visible = attempt.first_visible
        if attempt.failure is not None:
            self._fail(attempt, attempt.failure)
            return
        self._winner = attempt
        # What a good reply shows about its candidate.
        state, plan, usage = self.parts.state, attempt.plan, attempt.exchange.usage
        if plan.in_thought or attempt.output_filter.opened_by_template:
            learn_template(attempt, state.book)
        if state.board.breakers:
            now = self.parts.env.clock()
            attempt.breaker = state.board.succeed(plan.candidate.scope_keys, now)
        if usage is not None and usage.source is _REPORTED and not plan.prompt.images:
            learn_ratio(state.book, plan.candidate.key, plan.prompt, usage.input_tokens)
        self._record(attempt, _DELIVER, committed=self.committed())

    def _fail(self, attempt: Attempt, error: ProviderError) -> None:
        self._note_failure(attempt)
        progress, parts = self._progress(attempt), self.parts
        evaluation = evaluate(attempt, error, progress, parts.state, parts.env, parts.rules)
        self._apply(attempt, evaluation)
        record = self._record(attempt, self._step(), committed=progress.partial)
        if self._empty is None and is_empty(attempt):
            self._empty = attempt, record

    def _record(self, attempt: Attempt, step: NextStep, *, committed: bool) -> AttemptRecord:
        recorder = self.parts.recorder
        record = recorder.attempted(attempt, step, self.of_max, committed=committed)
        self._records += (record,)
        self.sink.attempt_ended(record)
        return record

    def _note_failure(self, attempt: Attempt) -> None:
        self._failures += (attempt,)
        if attempt.first_visible is not None and attempt.ended is not None:
            self._silent_since = attempt.ended
        if attempt.yielded and self.committed():
            self._partials += (attempt,)

    def _progress(self, attempt: Attempt) -> Progress:
        return Progress(
            self.request,
            self.sink.kind,
            attempt in self._partials,
            len(self._partials),
            self._failures,
            self.total_s(self.parts.env.clock()),
            self._may_retry(attempt.plan.candidate),
            is_last=self.queue.is_last,
        )

    def _apply(self, attempt: Attempt, evaluation: Evaluation) -> None:
        if evaluation.set_aside:
            self.queue.without_vision += (attempt.plan.candidate,)
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
        return NextStep.FAILOVER if self.queue.has_more else NextStep.STOP

    # The end.

    async def _deliver_empty(self) -> bool:
        """Give a client that writes its own prompts the empty answer, where there is no other."""
        if self._empty is None or self._winner or self._partials or self.request.may_trim_prompt:
            return False
        attempt, _ = self._empty
        self._winner = attempt
        self.begin_output(attempt.plan.candidate, attempt.exchange.identity)
        # What was held back: reasoning, and frames without text.
        for output in attempt.unreleased():
            self.sink.write(output)
        await self.sink.flush()
        return True

    def _end(self, now: float) -> ReplyEnded:
        winner = self._winner
        if winner is not None:
            answer = self._empty if winner.failure else None
            return ReplyEnded(
                self._close(_DELIVERED, now, winner=answer),
                winner.text,
                winner.finish_reason,
                None,
                winner.plan.prompt.degraded,
                winner.last_frames,
                winner.exchange.identity,
            )
        error_class = self._failures[-1].error_class if self._failures else None
        if self._partials:
            record = self._close(ReplyOutcome.PARTIAL, now)
            best = max(self._partials, key=_worth)
            return ReplyEnded(record, best.text, None, error_class)
        offline = self._offline(now)
        rejected = offline.reason is OfflineReason.REJECTED
        outcome = ReplyOutcome.REJECTED if rejected else ReplyOutcome.OFFLINE
        return ReplyEnded(self._close(outcome, now, offline), error_class=error_class)

    def _abandon(self) -> None:
        """Record a request that was cancelled; that says nothing about the candidate."""
        attempt, parts = self._running, self.parts
        if attempt is not None:
            del parts.state.attempts[attempt]
            attempt.cancel()
            parts.state.board.release(attempt.plan.probes)
            shown, recorder = self.committed(), parts.recorder
            record = recorder.attempted(attempt, NextStep.STOP, self.of_max, committed=shown)
            self._records += (record,)
        self._close(ReplyOutcome.CANCELLED, parts.env.clock())

    def _close(
        self,
        outcome: ReplyOutcome,
        now: float,
        offline: Offline | None = None,
        winner: tuple[Attempt, AttemptRecord] | None = None,
    ) -> ReplyRecord:
        self._over = True
        return self.parts.recorder.reply(
            self.request,
            outcome,
            self._records,
            (self.started, self._first_visible, now),
            offline=offline,
            winner=None if winner is None else winner[1],
        )

    def _offline(self, now: float) -> Offline:
        over = self.total_s(now) <= 0
        reason = offline_reason(
            self._records,
            out_of_time=over or self.remaining_s(now) <= 0,
            # The end of the time stops a request too, and that is not its fault.
            at_fault=self._stopped and not over,
        )
        selection = self.parts.selection
        return Offline(reason, selection.retry_at(reason, self.candidates, self._records, now))


def _worth(part: Attempt) -> tuple[bool, int]:
    """Prefer a longer part, and any to one that was garbled."""
    return part.error_class is not ErrorClass.GARBAGE, len(part.text)
