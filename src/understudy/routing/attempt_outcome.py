"""Evaluates an attempt that has ended: for its candidate, and for the reply."""

import msgspec
import structlog

from understudy.errors import ErrorClass, HoldScope, ProviderError
from understudy.llm.capabilities import MOST_TOKENS_PER_BYTE, Capabilities, CapabilityBook
from understudy.llm.openai_wire import without_lengths
from understudy.routing.attempt import Attempt
from understudy.routing.environment import RouterEnvironment, RouterRules
from understudy.routing.failure_policy import STOPS, Rule, rule_for
from understudy.routing.prompt_fitting import learn_ratio
from understudy.routing.records import AttemptRole
from understudy.routing.request import ReplyRequest, SinkKind
from understudy.routing.retries import DROPPABLE, RetryPlan, retry_plan_for
from understudy.routing.router_state import RouterState

_log = structlog.get_logger()

_EMPTY = (ErrorClass.EMPTY_REPLY, ErrorClass.REASONING_EXHAUSTED)
_RESTART_NEEDS_S = 10.0
_SENTENCE_ENDS = (".", "!", "?", "…", '."', '!"', '?"', ".)", "。", "！", "？")
_SHRINK = 0.85
"""For a prompt refused as too long by a server that said how long it was."""
_LEAST_CONTEXT = 1024
_UNDERESTIMATED = 1.5
"""For one that did not say: the estimate of the next prompts rises by this."""
_REASONING_FACTOR = 4
"""By how much the reply's length grows after reasoning used all of it."""


class Progress(msgspec.Struct, frozen=True):
    """What the evaluation needs to know of the request, this attempt included."""

    request: ReplyRequest
    kind: SinkKind
    partial: bool
    """Visible text of this attempt was interrupted."""
    partial_count: int
    failures: tuple[Attempt, ...]
    total_s: float
    """Seconds until the request must have ended."""
    may_retry: bool
    """Whether this candidate may be tried once more."""
    is_last: bool
    """No other candidate waits to be tried."""


class Evaluation(msgspec.Struct, frozen=True):
    """What follows from an attempt."""

    stop: bool = False
    """No other candidate is tried."""
    restart: bool = False
    """The next candidate's text replaces the visible part."""
    retry: RetryPlan | None = None
    set_aside: bool = False
    """The candidate may be tried again without images."""


def evaluate(
    attempt: Attempt,
    error: ProviderError,
    progress: Progress,
    state: RouterState,
    env: RouterEnvironment,
    rules: RouterRules,
) -> Evaluation:
    """Update cooldowns and capabilities by an attempt that failed with `error`; decide what is
    next."""
    learn_template(attempt, state.book)
    candidate, board, now = attempt.plan.candidate, state.board, env.clock()
    rule = rule_for(error, local=candidate.local, useful_output=attempt.first_output is not None)
    if error.error_class is ErrorClass.EMPTY_REPLY and progress.request.may_be_empty:
        rule = Rule()
    attempt.breaker = board.count_failure(candidate, error, rule, attempt.plan.probes, now)
    _follow_up(attempt, error, rule, state)
    set_aside = _learn(attempt, error, progress.request, state)
    hold = board.availability(candidate.scope_keys, now).hold
    attempt.held_until = None if hold is None else env.wall() + hold.until - now
    restart = progress.partial and _may_restart(attempt, progress, rule, rules)
    stop = _is_final(error, progress, rules, restart=restart)
    retry = None if stop or progress.partial else _retry(attempt, error, progress, state.book)
    return Evaluation(stop, restart, retry, set_aside)


def is_empty(attempt: Attempt) -> bool:
    """Whether the server ended the reply as it should, without any text."""
    return attempt.finish_reason is not None and attempt.error_class in _EMPTY


def learn_template(attempt: Attempt, book: CapabilityBook) -> None:
    """Note whether the chat template opens a thought, where the reply shows it."""
    opens_thought = attempt.output_filter.opened_by_template
    if opens_thought or (attempt.plan.in_thought and attempt.failure is None):
        book.learn(attempt.plan.candidate.key, Capabilities(opens_thought=opens_thought))


def _follow_up(attempt: Attempt, error: ProviderError, rule: Rule, state: RouterState) -> None:
    """After a cooldown opened: poll a local server; report what only the operator can fix."""
    change, candidate = attempt.breaker, attempt.plan.candidate
    if change is None:
        return
    if candidate.local and rule.scope is HoldScope.ENDPOINT:
        state.health.watch(candidate)
    if rule.alerts and change.before != change.after:
        _log.warning(
            "router.operator_needed",
            provider=candidate.provider,
            model=candidate.model,
            error_class=error.error_class.value,
        )


def _learn(
    attempt: Attempt, error: ProviderError, request: ReplyRequest, state: RouterState
) -> bool:
    """Note what the refusal says about the model; True to try it again without images."""
    book, key = state.book, attempt.plan.candidate.key
    images = attempt.plan.prompt.images > 0
    match error.error_class:
        case ErrorClass.CONTEXT_OVERFLOW:
            _learn_overflow(attempt, error, book)
        case ErrorClass.UNSUPPORTED_INPUT if request.raw_completion:
            book.learn(key, Capabilities(supports_completions=False))
        case ErrorClass.UNSUPPORTED_INPUT if images:
            book.learn(key, Capabilities(vision=False))
            return True
        case ErrorClass.PAYLOAD_TOO_LARGE if images:
            # Without its images the request may be small enough.
            return True
        case ErrorClass.UNSUPPORTED_INPUT if request.tools:
            book.learn(key, Capabilities(tools=False))
        case ErrorClass.UNSUPPORTED_PARAM if error.parameter in DROPPABLE:
            book.learn_omission(key, error.parameter or "")
        case _:
            pass
    return False


def _learn_overflow(attempt: Attempt, error: ProviderError, book: CapabilityBook) -> None:
    """Learn context and tokens per byte, of which a refusal names both, one or neither."""
    candidate, prompt = attempt.plan.candidate, attempt.plan.prompt
    key = candidate.key
    known = book.of(key, candidate.capabilities).n_ctx
    measured = book.has_measured_tokens(key)
    if error.prompt_tokens is not None and not prompt.images:
        learn_ratio(book, key, prompt, error.prompt_tokens)
    elif error.prompt_tokens is None and not (measured and error.n_ctx is None):
        book.learn_underestimate(key, _UNDERESTIMATED)
    if error.n_ctx is not None:
        book.learn(key, Capabilities(n_ctx=error.n_ctx))
    elif known is None or measured:
        # The estimate is reliable, so the context must be shorter than assumed.
        guess = max(prompt.input_tokens // 2, _LEAST_CONTEXT)
        book.learn(key, Capabilities(n_ctx=min(known or guess, guess)))


def _shrink(attempt: Attempt, error: ProviderError, book: CapabilityBook) -> float:
    """Return the share of a refused prompt that fits for sure: there is only one more try."""
    if error.prompt_tokens is not None:
        return _SHRINK
    ratio = book.tokens_per_char(attempt.plan.candidate.key)
    return min(_SHRINK, ratio / MOST_TOKENS_PER_BYTE)


def _is_final(
    error: ProviderError,
    progress: Progress,
    rules: RouterRules,
    *,
    restart: bool,
) -> bool:
    """Whether no other candidate is tried."""
    if error.error_class in STOPS or progress.total_s <= 0:
        return True
    if progress.partial:
        return not restart
    classes = [failed.error_class for failed in progress.failures]
    if error.error_class is ErrorClass.CONTENT_POLICY:
        return rules.stop_on_content_policy or classes.count(ErrorClass.CONTENT_POLICY) > 1
    # Two different providers refused the request, so the request is at fault.
    refused = {
        failed.plan.candidate.provider
        for failed in progress.failures
        if failed.error_class is ErrorClass.BAD_REQUEST
    }
    return len(refused) > 1


def _may_restart(attempt: Attempt, progress: Progress, rule: Rule, rules: RouterRules) -> bool:
    return (
        progress.kind is SinkKind.EDITABLE
        and rule.restarts
        and not attempt.tool_calls
        and not _is_good_enough(attempt.text, rules.keep_partial_chars)
        and progress.partial_count == 1
        and progress.total_s >= _RESTART_NEEDS_S
    )


def _is_good_enough(part: str, least: int) -> bool:
    return 0 < least <= len(part) and part.rstrip().endswith(_SENTENCE_ENDS)


def _retry(
    attempt: Attempt, error: ProviderError, progress: Progress, book: CapabilityBook
) -> RetryPlan | None:
    role: AttemptRole | None = retry_plan_for(
        error,
        may_trim_prompt=progress.request.may_trim_prompt,
        may_lengthen=without_lengths(attempt.plan.prompt.request.extra)
        is attempt.plan.prompt.request.extra,
        is_last=progress.is_last,
    )
    if role is None or not progress.may_retry:
        return None
    candidate = attempt.plan.candidate
    room = None
    if error.error_class is ErrorClass.REASONING_EXHAUSTED:
        room = attempt.plan.prompt.request.max_tokens or candidate.reply_tokens
        room *= _REASONING_FACTOR
    overflow = error.error_class is ErrorClass.CONTEXT_OVERFLOW
    return RetryPlan(
        candidate,
        role,
        shrink=_shrink(attempt, error, book) if overflow else 1.0,
        max_tokens=error.affordable_tokens or room,
    )
