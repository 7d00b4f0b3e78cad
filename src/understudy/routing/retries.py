"""Whether a failed attempt is repeated with the same candidate, and how it is changed. Pure."""

from dataclasses import dataclass

from understudy.errors import ErrorClass, ProviderError
from understudy.routing.candidates import Candidate
from understudy.routing.failure_policy import ECHO, RULES
from understudy.routing.records import AttemptRole


@dataclass(frozen=True, slots=True)
class RetryPlan:
    candidate: Candidate
    role: AttemptRole
    wait_s: float = 0.0
    shrink: float = 1.0
    """For a prompt that turned out too long: the share of it to keep."""
    max_tokens: int | None = None


DROPPABLE = frozenset(
    (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "typical_p",
        "stop",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "logit_bias",
        "logprobs",
        "stream_options",
        "reasoning_effort",
    )
)
"""Parameters that may be dropped."""


def retry_plan_for(
    error: ProviderError,
    *,
    may_trim_prompt: bool,
    may_lengthen: bool = True,
    is_last: bool = False,
) -> AttemptRole | None:
    """Return the role of an immediate retry of the same candidate, if there is one.

    `may_lengthen`: the length of the reply is not a client's own. `is_last`: no other candidate
    is left.
    """
    match error.error_class:
        case ErrorClass.GARBAGE if error.provider_code == ECHO and is_last:
            return AttemptRole.PARAM_RETRY
        case ErrorClass.STALE_CONNECTION:
            return AttemptRole.STALE_RETRY
        case ErrorClass.UNSUPPORTED_PARAM if error.parameter in DROPPABLE:
            return AttemptRole.PARAM_RETRY
        case ErrorClass.REASONING_EXHAUSTED if may_lengthen:
            return AttemptRole.PARAM_RETRY
        case ErrorClass.QUOTA if error.affordable_tokens is not None:
            return AttemptRole.SHRINK_RETRY
        case ErrorClass.CONTEXT_OVERFLOW if may_trim_prompt:
            return AttemptRole.SHRINK_RETRY
        case _:
            return None


BACKOFF_S = (0.3, 1.5)
_LONGEST_BACKOFF_S = 5.0


def backoff_s(error: ProviderError, *, dice: float, remaining_s: float) -> float | None:
    """Return how long to wait before retrying the only candidate; `None`: do not.

    `dice` is a random number from 0 to 1.
    """
    rate_limited = error.error_class is ErrorClass.RATE_LIMITED
    if not RULES[error.error_class].transient and not rate_limited:
        return None
    if error.retry_after_s is not None:
        wait = max(error.retry_after_s, 0.0)
        return wait if wait <= min(_LONGEST_BACKOFF_S, remaining_s) else None
    low, high = BACKOFF_S
    wait = low + (high - low) * dice
    return None if rate_limited or wait >= remaining_s else wait
