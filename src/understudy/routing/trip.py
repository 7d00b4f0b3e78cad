"""One reply on its way through the candidates: what was tried, what it showed, what it may still
spend."""

from collections import deque
from collections.abc import Iterator, Sequence

from understudy.routing.attempts import (
    AttemptRecord,
    NextStep,
    OfflineReason,
    ReplyOutcome,
    ReplyRecord,
)
from understudy.routing.candidate import Candidate
from understudy.routing.deadlines import Deadline
from understudy.routing.recording import Offline, Recorder, Skip, Verdict
from understudy.routing.request import (
    Answering,
    ReplyEnded,
    ReplyRequest,
    Restarted,
    RouterEvent,
    SinkKind,
)
from understudy.routing.running import RunningAttempt


class Trip:
    """The state of one request. Nothing of it outlives the request or is shared with another."""

    def __init__(
        self,
        request: ReplyRequest,
        candidates: Sequence[Candidate],
        recorder: Recorder,
        deadline: Deadline,
        now: float,
    ) -> None:
        self.request = request
        self.waiting = deque(candidates)
        """Candidates whose turn has not come yet, in order."""
        self.records: list[AttemptRecord] = []
        self.failures: list[RunningAttempt] = []
        self.winner: RunningAttempt | None = None
        self.stopped = False
        self._recorder = recorder
        self._started = now
        self._commit_by = now + deadline.commit_s
        self._total_by = now + deadline.total_s
        self._first_visible: float | None = None
        self._partials: list[str] = []
        """Texts that people have seen break off."""
        self._yielded_text = False
        self._running: RunningAttempt | None = None
        self._over = False

    def remaining_s(self, now: float) -> float:
        """Until visible text must have come; once some has, until the reply must be whole."""
        by = self._commit_by if self._first_visible is None else self._total_by
        return min(by, self._total_by) - now

    def total_s(self, now: float) -> float:
        return self._total_by - now

    @property
    def decided(self) -> bool:
        return self.stopped or self.winner is not None

    @property
    def committed(self) -> bool:
        """Whether people have seen text of this reply that another attempt would contradict."""
        if not self._yielded_text:
            return False
        return self.request.kind is SinkKind.APPEND_ONLY or self.request.shown()

    def skip(self, candidate: Candidate, skip: Skip) -> AttemptRecord:
        record = self._recorder.skipped(candidate, skip, len(self.records) + 1)
        self.records.append(record)
        return record

    def start(self, run: RunningAttempt) -> None:
        self._running = run

    def announce(self, run: RunningAttempt) -> Iterator[RouterEvent]:
        """What the sink must know before the first output of an attempt."""
        if self._yielded_text:
            yield Restarted()
        self._yielded_text = True
        candidate = run.assignment.candidate
        yield Answering(candidate.provider, candidate.label, candidate.model, len(self.records) + 1)

    def note_end(self, run: RunningAttempt) -> None:
        """Take in what an attempt that just ended has left on the screen."""
        self._running = None
        if self._first_visible is None:
            self._first_visible = run.first_visible
        if run.failure is None:
            self.winner = run
            return
        self.failures.append(run)
        if run.yielded and self.committed:
            self._partials.append(run.text)

    def record(self, run: RunningAttempt, verdict: Verdict) -> AttemptRecord:
        record = self._recorder.attempted(run, verdict, len(self.records) + 1)
        self.records.append(record)
        return record

    def end(self, offline: Offline) -> ReplyEnded:
        """The last event; `offline` counts only when nothing was delivered."""
        self._over = True
        error_class = self.failures[-1].error_class if self.failures else None
        if self.winner is not None:
            record = self._close(ReplyOutcome.DELIVERED)
            run = self.winner
            degraded = run.assignment.prompt.degraded
            return ReplyEnded(record, run.text, run.finish_reason, None, degraded)
        if self._partials:
            record = self._close(ReplyOutcome.PARTIAL)
            return ReplyEnded(record, max(self._partials, key=len), None, error_class)
        rejected = offline.reason is OfflineReason.REJECTED
        outcome = ReplyOutcome.REJECTED if rejected else ReplyOutcome.OFFLINE
        return ReplyEnded(self._close(outcome, offline), error_class=error_class)

    def abandon(self) -> None:
        """Record a reply that was cancelled; does nothing once the reply has ended."""
        if self._over:
            return
        self._over = True
        if self._running is not None:
            self.record(self._running, Verdict(NextStep.STOP, committed=self.committed))
        self._close(ReplyOutcome.CANCELLED)

    def _close(self, outcome: ReplyOutcome, offline: Offline | None = None) -> ReplyRecord:
        return self._recorder.reply(
            outcome,
            tuple(self.records),
            started=self._started,
            first_visible=self._first_visible,
            offline=offline,
        )
