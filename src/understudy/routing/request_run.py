"""One reply on its way through the candidates: what was tried, what it showed, what it may still
spend."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from understudy.errors import ErrorClass
from understudy.routing.attempt import Attempt
from understudy.routing.candidates import Candidate
from understudy.routing.failure_policy import RetryPlan
from understudy.routing.recorder import Offline, Recorder, Skip, Verdict
from understudy.routing.records import (
    AttemptRecord,
    OfflineReason,
    ReplyOutcome,
    ReplyRecord,
)
from understudy.routing.request import (
    Answering,
    ReplyEnded,
    ReplyRequest,
    Restarted,
    RouterEvent,
    SinkKind,
)
from understudy.routing.timeouts import Deadline

MOST_REPAIRS = 2
"""Per request; one per candidate."""


@dataclass(slots=True, eq=False)
class RequestRun:
    """The state of one request. Nothing of it outlives the request or is shared with another."""

    request: ReplyRequest
    waiting: deque[Candidate]
    """Candidates whose turn has not come yet, in order."""
    recorder: Recorder
    deadline: Deadline
    started: float

    records: list[AttemptRecord] = field(default_factory=list)
    failures: list[Attempt] = field(default_factory=list)
    winner: Attempt | None = None
    stopped: bool = False

    resting: list[Candidate] = field(default_factory=list)
    """Left out for a cooldown: asked after all, if nobody else is left."""
    set_aside_for_images: list[Candidate] = field(default_factory=list)
    """Cannot see the images: asked without them, if nobody who can is left."""
    waited: bool = False
    forcing: bool = False
    degrading: bool = False
    restarting: bool = False
    """Text that people have seen broke off: the next text replaces it."""
    repair: RetryPlan | None = None

    _repaired: list[Candidate] = field(default_factory=list)
    _first_visible: float | None = None
    _silent_since: float = field(init=False)
    _partials: list[Attempt] = field(default_factory=list)
    """What people have seen break off."""
    _yielded_text: bool = False
    _running: Attempt | None = None
    _over: bool = False

    def __post_init__(self) -> None:
        self._silent_since = self.started

    def remaining_s(self, now: float) -> float:
        """Until the next attempt's text must be visible; text that broke off starts it anew."""
        return min(self._silent_since + self.deadline.commit_s - now, self.total_s(now))

    def total_s(self, now: float) -> float:
        return self.started + self.deadline.total_s - now

    @property
    def decided(self) -> bool:
        return self.stopped or self.winner is not None

    @property
    def attempts_left(self) -> bool:
        return len(self.failures) < self.recorder.of_max

    @property
    def may_degrade(self) -> bool:
        return self.request.degrade_images

    @property
    def echoes(self) -> tuple[str, ...]:
        """Texts that are no reply; an echo is refused once, for some do ask for one."""
        if any(run.echoed for run in self.failures):
            return ()
        return (self.request.last_user_text, self.request.previous_reply)

    @property
    def partial_count(self) -> int:
        return len(self._partials)

    def is_partial(self, run: Attempt) -> bool:
        """Whether people have seen this attempt break off."""
        return run in self._partials

    def may_repair(self, candidate: Candidate) -> bool:
        return len(self._repaired) < MOST_REPAIRS and candidate not in self._repaired

    def plan_repair(self, repair: RetryPlan) -> None:
        self._repaired.append(repair.candidate)
        self.repair = repair

    def all_call_it_bad(self) -> bool:
        """Two different providers refused the request: it is at fault, not they."""
        refused = {
            run.assignment.candidate.provider
            for run in self.failures
            if run.error_class is ErrorClass.BAD_REQUEST
        }
        return len(refused) > 1

    @property
    def committed(self) -> bool:
        """Whether people have seen text of this reply that another attempt would contradict."""
        if not self._yielded_text:
            return False
        return self.request.kind is SinkKind.APPEND_ONLY or self.request.shown()

    def skip(self, candidate: Candidate, skip: Skip) -> AttemptRecord:
        record = self.recorder.skipped(candidate, skip, len(self.records) + 1)
        self.records.append(record)
        return record

    def start(self, run: Attempt) -> None:
        self._running = run

    def announce(self, run: Attempt) -> Iterator[RouterEvent]:
        """What the sink must know before the first output of an attempt."""
        if self._yielded_text:
            yield Restarted()
        self._yielded_text = True
        candidate = run.assignment.candidate
        yield Answering(candidate.provider, candidate.label, candidate.model, len(self.records) + 1)

    def note_end(self, run: Attempt) -> None:
        """Take in what an attempt that just ended has left on the screen."""
        self._running = None
        if self._first_visible is None:
            self._first_visible = run.first_visible
        if run.failure is None:
            self.winner = run
            return
        self.failures.append(run)
        if run.first_visible is not None and run.ended is not None:
            self._silent_since = run.ended
        if run.yielded and self.committed:
            self._partials.append(run)

    def record(self, run: Attempt, verdict: Verdict) -> AttemptRecord:
        record = self.recorder.attempted(run, verdict, len(self.records) + 1)
        self.records.append(record)
        return record

    def end(self, offline: Offline | None) -> ReplyEnded:
        """The last event; `offline` says why, where there is no winner."""
        self._over = True
        error_class = self.failures[-1].error_class if self.failures else None
        if self.winner is not None:
            record = self._close(ReplyOutcome.DELIVERED)
            run = self.winner
            degraded = run.assignment.prompt.degraded
            return ReplyEnded(record, run.text, run.finish_reason, None, degraded)
        if self._partials:
            record = self._close(ReplyOutcome.PARTIAL)
            return ReplyEnded(record, max(self._partials, key=_worth).text, None, error_class)
        rejected = offline is not None and offline.reason is OfflineReason.REJECTED
        outcome = ReplyOutcome.REJECTED if rejected else ReplyOutcome.OFFLINE
        return ReplyEnded(self._close(outcome, offline), error_class=error_class)

    def abandon(self, judged: Callable[[Attempt], Verdict]) -> None:
        """Record a reply that was cancelled; does nothing once the reply has ended."""
        if self._over:
            return
        self._over = True
        if self._running is not None:
            self._running.cancelled = True
            verdict = replace(judged(self._running), committed=self.committed)
            self.record(self._running, verdict)
        self._close(ReplyOutcome.CANCELLED)

    def _close(self, outcome: ReplyOutcome, offline: Offline | None = None) -> ReplyRecord:
        return self.recorder.reply(
            outcome,
            tuple(self.records),
            started=self.started,
            first_visible=self._first_visible,
            offline=offline,
        )


def _worth(part: Attempt) -> tuple[bool, int]:
    """Of two parts the longer one stays, but any before one that was garbled."""
    return part.error_class is not ErrorClass.GARBAGE, len(part.text)
