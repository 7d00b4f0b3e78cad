"""What follows from an attempt that has ended: for its candidate, and for the reply."""

from collections.abc import Callable

import structlog

from understudy.errors import ErrorClass, HoldScope, ProviderError
from understudy.llm.capabilities import MOST_TOKENS_PER_BYTE, Capabilities
from understudy.llm.messages import UsageSource
from understudy.routing.attempt import Attempt
from understudy.routing.failure_policy import (
    DROPPABLE,
    STOPS,
    RetryPlan,
    Rule,
    retry_plan_for,
    rule_for,
)
from understudy.routing.prompt_fitting import learn_ratio
from understudy.routing.recorder import Verdict
from understudy.routing.records import AttemptRole, BreakerChange, NextStep
from understudy.routing.request import SinkKind
from understudy.routing.request_run import RequestRun
from understudy.routing.router_state import RouterState

_log = structlog.get_logger()

_RESTART_NEEDS_S = 10.0
_SENTENCE_ENDS = (".", "!", "?", "…", '."', '!"', '?"', ".)", "。", "！", "？")
_SHRINK = 0.85
"""For a prompt refused as too long by a server that said how long it was."""
_LEAST_CONTEXT = 1024
_UNDERESTIMATED = 1.5
"""For one that did not say: the estimate of the next prompts rises by this."""
_ROOM_TO_THINK = 4


class AttemptEvaluator:
    def __init__(
        self,
        memory: RouterState,
        clock: Callable[[], float],
        wall: Callable[[], float],
        *,
        stop_on_content_policy: bool,
        keep_partial_chars: int,
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._wall = wall
        self._stop_on_content_policy = stop_on_content_policy
        self._keep_partial_chars = keep_partial_chars

    def judge(self, trip: RequestRun, run: Attempt) -> Verdict:
        """Take the consequences of an attempt that ended by itself."""
        trip.note_end(run)
        if run.failure is None:
            return self._succeeded(trip, run)
        rule = rule_for(
            run.failure,
            local=run.assignment.candidate.local,
            useful_output=run.first_output is not None,
        )
        breaker = self._hold(run, run.failure, rule)
        self._learn(trip, run, run.failure)
        trip.stopped = self._final(trip, run, run.failure, rule)
        return Verdict(
            self._next(trip),
            committed=trip.is_partial(run),
            breaker=breaker,
            held_until=self._held_until(run),
        )

    def cancelled(self, run: Attempt) -> Verdict:
        """The sink went away: that says nothing about the candidate."""
        self._memory.board.release(run.assignment.probes)
        return Verdict(NextStep.STOP)

    def _succeeded(self, trip: RequestRun, run: Attempt) -> Verdict:
        candidate, prompt = run.assignment.candidate, run.assignment.prompt
        breaker = self._memory.board.succeed(candidate.scope_keys, self._clock())
        usage = run.exchange.usage
        if usage is not None and usage.source is UsageSource.REPORTED and not prompt.images:
            learn_ratio(self._memory.book, candidate.key, prompt, usage.input_tokens)
        return Verdict(NextStep.DELIVER, committed=trip.committed, breaker=breaker)

    def _hold(self, run: Attempt, error: ProviderError, rule: Rule) -> BreakerChange | None:
        board, candidate, now = self._memory.board, run.assignment.candidate, self._clock()
        board.release(run.assignment.probes)
        if error.http_status is not None:
            # Whatever it said, its machine is up.
            board.succeed([k for k in run.assignment.probes if k.scope is HoldScope.ENDPOINT], now)
        if rule.scope is None or rule.scope is HoldScope.REQUEST:
            return None
        change = board.fail(
            candidate.scope_key(rule.scope),
            rule,
            error.error_class,
            now,
            retry_after_s=error.retry_after_s,
        )
        if change is not None and candidate.local and rule.scope is HoldScope.ENDPOINT:
            self._memory.health.look_after(candidate)
        if change is not None and rule.alerts and change.before != change.after:
            _log.warning(
                "router.operator_needed",
                provider=candidate.provider,
                model=candidate.model,
                error_class=error.error_class.value,
            )
        return change

    def _held_until(self, run: Attempt) -> float | None:
        now = self._clock()
        hold = self._memory.board.gate(run.assignment.candidate.scope_keys, now).hold
        return None if hold is None else self._wall() + hold.until - now

    def _learn(self, trip: RequestRun, run: Attempt, error: ProviderError) -> None:
        book, key = self._memory.book, run.assignment.candidate.key
        match error.error_class:
            case ErrorClass.CONTEXT_OVERFLOW:
                self._learn_overflow(run, error)
            case ErrorClass.UNSUPPORTED_INPUT if trip.request.raw_completion:
                book.learn(key, Capabilities(supports_completions=False))
            case ErrorClass.UNSUPPORTED_INPUT if run.assignment.prompt.images:
                book.learn(key, Capabilities(vision=False))
                trip.set_aside_for_images.append(run.assignment.candidate)
            case ErrorClass.PAYLOAD_TOO_LARGE if run.assignment.prompt.images:
                # Pictures are what makes a request large: without them it may do.
                trip.set_aside_for_images.append(run.assignment.candidate)
            case ErrorClass.UNSUPPORTED_INPUT if trip.request.tools:
                book.learn(key, Capabilities(tools=False))
            case ErrorClass.UNSUPPORTED_PARAM if error.parameter in DROPPABLE:
                book.learn_omission(key, error.parameter or "")
            case _:
                pass

    def _learn_overflow(self, run: Attempt, error: ProviderError) -> None:
        """Learn context and tokens per byte, of which a refusal names both, one or neither."""
        candidate, prompt = run.assignment.candidate, run.assignment.prompt
        book, key = self._memory.book, candidate.key
        known = book.of(key, candidate.capabilities).n_ctx
        measured = book.has_measured_tokens(key)
        if error.prompt_tokens is not None and not prompt.images:
            learn_ratio(book, key, prompt, error.prompt_tokens)
        elif error.prompt_tokens is None and not (measured and error.n_ctx is None):
            book.learn_underestimate(key, _UNDERESTIMATED)
        if error.n_ctx is not None:
            book.learn(key, Capabilities(n_ctx=error.n_ctx))
        elif known is None or measured:
            # The estimate can be trusted, so the context must be shorter than it was thought.
            guess = max(prompt.input_tokens // 2, _LEAST_CONTEXT)
            book.learn(key, Capabilities(n_ctx=min(known or guess, guess)))

    def _final(self, trip: RequestRun, run: Attempt, error: ProviderError, rule: Rule) -> bool:
        """Whether nobody else is asked."""
        if error.error_class in STOPS or trip.total_s(self._clock()) <= 0:
            return True
        if trip.is_partial(run):
            return not self._may_restart(trip, run, rule)
        if error.error_class is ErrorClass.CONTENT_POLICY:
            policy = [r for r in trip.failures if r.error_class is ErrorClass.CONTENT_POLICY]
            return self._stop_on_content_policy or len(policy) > 1
        if trip.all_call_it_bad():
            return True
        self._plan_repair(trip, run, error)
        return False

    def _may_restart(self, trip: RequestRun, run: Attempt, rule: Rule) -> bool:
        may = (
            trip.request.kind is SinkKind.EDITABLE
            and rule.restarts
            and not run.tool_calls
            and not self._is_good_enough(run.text)
            and trip.partial_count == 1
            and trip.total_s(self._clock()) >= _RESTART_NEEDS_S
        )
        trip.restarting = may
        return may

    def _is_good_enough(self, part: str) -> bool:
        least = self._keep_partial_chars
        return 0 < least <= len(part) and part.rstrip().endswith(_SENTENCE_ENDS)

    def _plan_repair(self, trip: RequestRun, run: Attempt, error: ProviderError) -> None:
        role = retry_plan_for(error, may_trim_prompt=trip.request.may_trim_prompt)
        candidate = run.assignment.candidate
        if role is None or not trip.may_repair(candidate):
            return
        room = None
        if error.error_class is ErrorClass.REASONING_EXHAUSTED:
            room = run.assignment.prompt.request.max_tokens or candidate.reply_tokens
            room *= _ROOM_TO_THINK
        overflow = error.error_class is ErrorClass.CONTEXT_OVERFLOW
        trip.plan_repair(
            RetryPlan(
                candidate,
                role,
                shrink=self._shrink(run, error) if overflow else 1.0,
                max_tokens=error.affordable_tokens or room,
            )
        )

    def _shrink(self, run: Attempt, error: ProviderError) -> float:
        """The share of a refused prompt that fits for sure: there is only one more try."""
        if error.prompt_tokens is not None:
            return _SHRINK
        ratio = self._memory.book.tokens_per_char(run.assignment.candidate.key)
        return min(_SHRINK, ratio / MOST_TOKENS_PER_BYTE)

    def _next(self, trip: RequestRun) -> NextStep:
        if trip.stopped:
            return NextStep.STOP
        if trip.repair is not None and trip.repair.role is not AttemptRole.BACKOFF_RETRY:
            return NextStep.RETRY
        return (
            NextStep.FAILOVER
            if trip.waiting or trip.resting or trip.set_aside_for_images
            else NextStep.STOP
        )
