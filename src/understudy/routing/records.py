"""Records: one per attempt, one per reply, and the route line made of them.

Logs, metrics, ledger, traces, `/why` and the pages read only these records.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from typing import Protocol

import msgspec

from understudy.errors import ErrorClass, HoldScope
from understudy.llm.client import Phase
from understudy.llm.messages import Usage


class Outcome(StrEnum):
    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class SkipReason(StrEnum):
    COOLDOWN = "cooldown"
    CONTEXT = "context"
    CAPABILITY = "capability"
    BUDGET = "budget"
    DISABLED = "disabled"
    NO_KEY = "no_key"


class AttemptRole(StrEnum):
    NORMAL = "normal"
    PROBE = "probe"
    FORCED = "forced"
    RESTART = "restart"
    STALE_RETRY = "stale_retry"
    PARAM_RETRY = "param_retry"
    SHRINK_RETRY = "shrink_retry"
    BACKOFF_RETRY = "backoff_retry"


class NextStep(StrEnum):
    """What the router did after an attempt."""

    FAILOVER = "failover"
    RETRY = "retry"
    STOP = "stop"
    DELIVER = "deliver"


class ReplyOutcome(StrEnum):
    DELIVERED = "delivered"
    PARTIAL = "partial"
    OFFLINE = "offline"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class OfflineReason(StrEnum):
    ALL_RATE_LIMITED = "all_rate_limited"
    ALL_DOWN = "all_down"
    DEADLINE = "deadline"
    NO_CAPABLE = "no_capable"
    TOO_LONG = "too_long"
    REJECTED = "rejected"
    CONFIG = "config"
    BUDGET = "budget"
    BUSY = "busy"
    """Too many requests wait in our own queues."""


class CostSource(StrEnum):
    """Where a cost comes from; only `unknown` goes with no figure at all."""

    REPORTED = "reported"
    """The server reported it with this reply."""
    LISTED = "listed"
    """Tokens times the provider's price list, or the price the operator configured."""
    UNBILLED = "unbilled"
    """An engine of the operator's own: 0, because its tokens are not billed."""
    UNKNOWN = "unknown"


class Origin(msgspec.Struct, frozen=True):
    """The channel and user of a reply. Only the ledger and limits read it: never logs, metrics
    or traces."""

    channel: str = ""
    """`platform:channel id`; empty for the gateway."""
    user: str = ""
    """`platform:user id`, or `key:name` for a gateway's key."""


NOBODY = Origin()
REPLY = "reply"
"""The purpose of replies to people and to clients."""


class BreakerChange(msgspec.Struct, frozen=True):
    """What an attempt did to the cooldown of one scope; states: `closed`, `open`, `half_open`."""

    scope: HoldScope
    before: str
    after: str
    hold_s: float


class AttemptRecord(msgspec.Struct, frozen=True):
    """One attempt, or one skipped candidate (`outcome` is `skipped`).

    Fields that every attempt sets come before those of failures. A log line has the first two and
    the last five in another form, and all others as they are.
    """

    ts: float
    """Wall clock at the start, seconds since the epoch."""
    label: str
    """The candidate's name for people: the provider, `local/<engine>` for `local`."""
    request_id: str
    attempt: int
    """Counts from 1 within the request, skips included."""
    of_max: int
    sink: str
    provider: str
    engine: str
    endpoint_host: str
    key_ref: str | None
    """The name the key was found under, never anything made from the key."""
    model_requested: str
    role: AttemptRole
    outcome: Outcome
    phase: Phase
    next: NextStep
    model_served: str | None = None
    upstream_id: str | None = None
    http_status: int | None = None
    committed: bool = False
    visible_chars: int = 0
    finish_reason: str | None = None
    t_queue_ms: int = 0
    t_connect_ms: int | None = None
    t_headers_ms: int | None = None
    t_first_output_ms: int | None = None
    t_first_visible_ms: int | None = None
    t_total_ms: int = 0
    budget_ms: int = 0
    max_gap_ms: int = 0
    reused_connection: bool = False
    keepalives: int = 0
    bad_frames: int = 0
    bad_members: int = 0
    """Members of frames that were dropped; in the log only."""
    cost_usd: float | None = None
    """Reported, else from the price list; `None` is unknown, never free."""
    images: int = 0
    config_rev: str = ""
    skip_reason: SkipReason | None = None
    error_class: ErrorClass | None = None
    provider_code: str | None = None
    error_digest: str | None = None
    error_text: str | None = None
    """Scrubbed and cut server text; set only with `debug.error_text`."""
    retry_after_s: float | None = None
    maybe_billed: bool = False
    """Cut off after the request was sent: the server may still charge for it."""
    usage: Usage | None = None
    cost_source: CostSource = CostSource.UNKNOWN
    degraded: tuple[str, ...] = ()
    breaker: BreakerChange | None = None
    held_until: float | None = None
    """Wall clock until which the candidate is in a cooldown, where it is known."""

    @property
    def candidate(self) -> str:
        return f"{self.provider}/{self.model_requested}"


class ReplyRecord(msgspec.Struct, frozen=True):
    """The attempts and the outcome of one reply."""

    ts: float
    request_id: str
    sink: str
    outcome: ReplyOutcome
    attempts: tuple[AttemptRecord, ...]
    winner: AttemptRecord | None = None
    offline_reason: OfflineReason | None = None
    retry_at: float | None = None
    """Wall clock of the soonest recovery, where one is known."""
    t_first_visible_ms: int | None = None
    t_total_ms: int = 0
    usage: Usage | None = None
    """Summed over all attempts; `None` when no attempt knows any."""
    origin: Origin = NOBODY
    purpose: str = REPLY
    """What it was for: `reply`, or work of the bot itself such as `summary`."""
    order_name: str = ""
    """The order that was chosen for it, and by whom, for people; empty for the usual one."""

    @property
    def cost_usd(self) -> float | None:
        """What is known of the cost, summed over all attempts; `None` when nothing is."""
        attempts = self.attempts
        if len(attempts) == 1:
            return attempts[0].cost_usd
        known = [a.cost_usd for a in attempts if a.cost_usd is not None]
        return sum(known) if known else None


class AttemptObserver(Protocol):
    """Receives each record exactly once, as soon as it is complete. Must not block or raise."""

    def attempt_ended(self, record: AttemptRecord) -> None: ...

    def reply_ended(self, record: ReplyRecord) -> None: ...


_WORDS: dict[ErrorClass, str] = {
    ErrorClass.CONNECT_REFUSED: "not running",
    ErrorClass.DNS: "address not found",
    ErrorClass.TLS: "TLS trouble",
    ErrorClass.CONNECT_TIMEOUT: "no connection",
    ErrorClass.STALE_CONNECTION: "connection dropped",
    ErrorClass.FIRST_TOKEN_TIMEOUT: "silent",
    ErrorClass.IDLE_TIMEOUT: "went silent",
    ErrorClass.TOTAL_TIMEOUT: "too slow",
    ErrorClass.TRUNCATED_STREAM: "broke off",
    ErrorClass.BAD_FRAME: "unreadable",
    ErrorClass.BAD_BODY: "unreadable",
    ErrorClass.SERVER_ERROR: "server error",
    ErrorClass.OVERLOADED: "overloaded",
    ErrorClass.LOADING: "still loading",
    ErrorClass.RATE_LIMITED: "rate-limited",
    ErrorClass.QUOTA: "out of credit",
    ErrorClass.AUTH: "key refused",
    ErrorClass.MODEL_GONE: "model gone",
    ErrorClass.UNSUPPORTED_INPUT: "cannot read this input",
    ErrorClass.UNSUPPORTED_PARAM: "setting refused",
    ErrorClass.PAYLOAD_TOO_LARGE: "request too large",
    ErrorClass.CONTEXT_OVERFLOW: "context too small",
    ErrorClass.BAD_REQUEST: "refused the request",
    ErrorClass.CONTENT_POLICY: "content refused",
    ErrorClass.REFUSAL: "declined",
    ErrorClass.EMPTY_REPLY: "empty reply",
    ErrorClass.REASONING_EXHAUSTED: "only thought",
    ErrorClass.GARBAGE: "garbled",
    ErrorClass.RESPONSE_TOO_LARGE: "too long",
    ErrorClass.POOL_TIMEOUT: "no free connection",
    ErrorClass.QUEUE_TIMEOUT: "busy",
    ErrorClass.CANCELLED: "stopped",
    ErrorClass.INTERNAL: "internal error",
}
_SKIPS: dict[SkipReason, str] = {
    SkipReason.COOLDOWN: "cooldown",
    SkipReason.CONTEXT: "context too small",
    SkipReason.CAPABILITY: "cannot take this request",
    SkipReason.BUDGET: "over budget",
    SkipReason.DISABLED: "off",
    SkipReason.NO_KEY: "no key",
}


# A member of an enumeration costs ten times as much to look up as a name of a module.
_OK, _CANCELLED = Outcome.OK, Outcome.CANCELLED
REPETITION = "repetition"
"""In `degraded`: the end of the reply repeated itself, and was cut."""


def words_of(error_class: ErrorClass) -> str:
    """What went wrong, in two or three words."""
    return _WORDS[error_class]


def verdict(record: AttemptRecord) -> str:
    """How an attempt ended, in a word or two for people."""
    if record.outcome is _OK:
        return "repeated itself, cut" if REPETITION in record.degraded else "answered"
    if record.outcome is _CANCELLED:
        return "stopped"
    if record.skip_reason is not None:
        return _SKIPS[record.skip_reason]
    return _WORDS[record.error_class or ErrorClass.INTERNAL]


def _step(record: AttemptRecord) -> str:
    ended, label, usage = verdict(record), record.label, record.usage
    if record.outcome is not _OK:
        return f"{ended}: {label}"
    tenths = (record.t_total_ms + 50) // 100
    if usage is None:
        return f"{ended}: {label}, {tenths // 10}.{tenths % 10} s"
    return (
        f"{ended}: {label}, {tenths // 10}.{tenths % 10} s, "
        f"{usage.input_tokens}→{usage.output_tokens} tokens"
    )


def describe_route(attempts: Sequence[AttemptRecord]) -> str:
    """The attempts of a reply in one line, for people.

    `rate-limited: openrouter · broke off: chutes · answered: local/koboldcpp, 1.3 s, 412→57 tokens`

    Equal neighbours are counted: `no key: openrouter ×3`.
    """
    if len(attempts) == 1 and attempts[0].skip_reason is None:
        return _step(attempts[0])
    steps = [_step(a) for a in attempts if a.skip_reason is not SkipReason.DISABLED]
    counted = [(step, len(list(same))) for step, same in groupby(steps)]
    return " · ".join([f"{step} ×{n}" if n > 1 else step for step, n in counted])
