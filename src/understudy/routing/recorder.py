"""Makes the records of attempts, skips and replies."""

import hashlib
import math
from collections.abc import Iterable

import msgspec

from understudy.errors import ProviderError
from understudy.llm.client import Exchange, Phase
from understudy.llm.messages import Usage, UsageSource
from understudy.llm.openai_wire import most_tokens
from understudy.llm.pricing import UNBILLED_ENGINES, PriceBook
from understudy.routing.attempt import Attempt
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment
from understudy.routing.records import (
    REPETITION,
    AttemptRecord,
    AttemptRole,
    CostSource,
    NextStep,
    OfflineReason,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
)
from understudy.routing.request import ReplyRequest
from understudy.routing.selection import Skip

# Read for each reply: looking up the member of an enum takes longer than a call.
_OK, _DELIVERED = Outcome.OK, ReplyOutcome.DELIVERED
_UNKNOWN, _LISTED, _UNBILLED = CostSource.UNKNOWN, CostSource.LISTED, CostSource.UNBILLED
_CHARS_PER_TOKEN = 3.3
_UNSENT = frozenset((Phase.QUEUE, Phase.CONNECT))


class Offline(msgspec.Struct, frozen=True):
    """Why nothing was delivered, and when a retry may succeed."""

    reason: OfflineReason
    retry_at: float | None = None
    """Wall clock."""


class Recorder:
    """Makes the records of the requests of one router and passes them to the observers."""

    def __init__(self, env: RouterEnvironment, config_rev: str) -> None:
        self._env = env
        self._config_rev = config_rev

    def skipped(
        self, candidate: Candidate, skip: Skip, request: ReplyRequest, number: int, of_max: int
    ) -> AttemptRecord:
        record = AttemptRecord(
            self._env.wall(),
            candidate.label,
            request.id,
            number,
            of_max,
            request.sink,
            candidate.provider,
            candidate.engine,
            candidate.endpoint_host,
            candidate.key_ref,
            candidate.model,
            AttemptRole.NORMAL,
            Outcome.SKIPPED,
            Phase.QUEUE,
            NextStep.FAILOVER,
            skip_reason=skip.reason,
            error_class=skip.error_class,
            held_until=skip.held_until,
            config_rev=self._config_rev,
        )
        for observer in self._env.observers:
            observer.attempt_ended(record)
        return record

    def attempted(
        self, attempt: Attempt, step: NextStep, of_max: int, *, committed: bool
    ) -> AttemptRecord:
        env, plan, started = self._env, attempt.plan, attempt.started
        candidate, prompt, exchange = plan.candidate, plan.prompt, attempt.exchange
        ended = env.clock() if attempt.ended is None else attempt.ended
        connect_s, headers_s = exchange.connect_s, exchange.headers_s
        output, visible = attempt.first_output, attempt.first_visible
        failure, request, usage = attempt.failure, attempt.request, exchange.usage
        if usage is None:
            usage = _estimated(attempt)
        cost, source = cost_of(
            env.prices,
            candidate.provider,
            candidate.engine,
            (candidate.model, exchange.model_served or candidate.model),
            usage,
        )
        record = AttemptRecord(
            env.wall() - (ended - started),
            candidate.label,
            request.id,
            attempt.number,
            of_max,
            request.sink,
            candidate.provider,
            candidate.engine,
            candidate.endpoint_host,
            candidate.key_ref,
            candidate.model,
            plan.role,
            _OK if failure is None else Outcome.ERROR,
            exchange.phase,
            step,
            exchange.model_served,
            exchange.upstream_id,
            exchange.http_status,
            committed,
            len(attempt.text),
            attempt.finish_reason,
            int(attempt.queued_s * 1000.0 + 0.5),
            None if connect_s is None else int(connect_s * 1000.0 + 0.5),
            None if headers_s is None else int(headers_s * 1000.0 + 0.5),
            None if output is None else int((output - started) * 1000.0 + 0.5),
            None if visible is None else int((visible - started) * 1000.0 + 0.5),
            int((ended - started) * 1000.0 + 0.5),
            int(plan.budget.first_token_s * 1000.0 + 0.5),
            int(attempt.max_gap_s * 1000.0 + 0.5),
            exchange.reused_connection,
            exchange.keepalives,
            exchange.bad_frames,
            exchange.bad_members,
            cost,
            prompt.images,
            self._config_rev,
            usage=usage,
            cost_source=source,
            degraded=(*prompt.degraded, REPETITION) if attempt.repeated else prompt.degraded,
            breaker=attempt.breaker,
            held_until=attempt.held_until,
        )
        if failure is not None or attempt.cancelled:
            record = self._unfinished(record, attempt)
        for observer in env.observers:
            observer.attempt_ended(record)
        return record

    def reply(
        self,
        request: ReplyRequest,
        outcome: ReplyOutcome,
        attempts: tuple[AttemptRecord, ...],
        times: tuple[float, float | None, float],
        *,
        offline: Offline | None = None,
        winner: AttemptRecord | None = None,
    ) -> ReplyRecord:
        """`times` are the start, the first visible text, and the end.

        `winner` is the last attempt of a delivered reply where it is not given.
        """
        if winner is None and outcome is _DELIVERED:
            winner = attempts[-1]
        started, first_visible, ended = times
        took_s = ended - started
        record = ReplyRecord(
            self._env.wall() - took_s,
            request.id,
            request.sink,
            outcome,
            attempts,
            winner,
            None if offline is None else offline.reason,
            None if offline is None else offline.retry_at,
            None if first_visible is None else int((first_visible - started) * 1000.0 + 0.5),
            int(took_s * 1000.0 + 0.5),
            attempts[0].usage if len(attempts) == 1 else sum_usage(attempts),
            request.origin,
            request.purpose,
            request.order_name,
        )
        for observer in self._env.observers:
            observer.reply_ended(record)
        return record

    def _unfinished(self, record: AttemptRecord, attempt: Attempt) -> AttemptRecord:
        """Return the record with what only failed and cancelled attempts have."""
        failure = attempt.failure
        if failure is not None:
            record = self._failed(record, failure)
        return msgspec.structs.replace(
            record,
            outcome=Outcome.CANCELLED if attempt.cancelled else record.outcome,
            maybe_billed=_maybe_billed(attempt.exchange),
        )

    def _failed(self, record: AttemptRecord, failure: ProviderError) -> AttemptRecord:
        detail, scrub = failure.detail, self._env.scrub
        return msgspec.structs.replace(
            record,
            error_class=failure.error_class,
            provider_code=failure.provider_code,
            retry_after_s=failure.retry_after_s,
            http_status=failure.http_status or record.http_status,
            error_digest=hashlib.sha256(detail.encode()).hexdigest()[:8] if detail else None,
            error_text=scrub(detail)[:300] if detail and scrub is not None else None,
        )


def _estimated(attempt: Attempt) -> Usage | None:
    """Estimate the usage of a server that reported none; `None` where it sent no output."""
    if attempt.first_output is None:
        return None
    spoken = math.ceil(
        (len(attempt.text) + attempt.reasoning_chars + attempt.call_chars) / _CHARS_PER_TOKEN
    )
    reasoning = math.ceil(attempt.reasoning_chars / _CHARS_PER_TOKEN)
    prompt = attempt.plan.prompt
    most = most_tokens(prompt.request)
    return Usage(
        prompt.input_tokens,
        spoken if most is None else min(spoken, most),
        reasoning if most is None else min(reasoning, most),
        source=UsageSource.ESTIMATED,
    )


def _maybe_billed(exchange: Exchange) -> bool:
    """Whether a request was cut off after it was sent, so that its cost is unknown."""
    answered_by_refusal = (exchange.http_status or 200) >= 400
    return not answered_by_refusal and exchange.phase not in _UNSENT and exchange.usage is None


def cost_of(
    prices: PriceBook, provider: str, engine: str, models: tuple[str, str], usage: Usage | None
) -> tuple[float | None, CostSource]:
    """The cost of an attempt that was sent, in US dollars; `models` are the one that was asked for
    and the one that answered.

    The server's own figure wins, then the price list; without either it is unknown. What was asked
    for as a free variant is free, also when its answer bears the name of the paid one.
    """
    if usage is not None and usage.cost_usd is not None:
        return usage.cost_usd, CostSource.REPORTED
    price = prices.price(provider, engine, models)
    if price is None or (usage is None and not price.free):
        return None, _UNKNOWN
    unbilled = engine in UNBILLED_ENGINES and price.free
    cost = 0.0 if usage is None else price.cost(usage)
    return cost, _UNBILLED if unbilled else _LISTED


_LEAST_SURE = (UsageSource.NONE, UsageSource.ESTIMATED, UsageSource.DERIVED, UsageSource.REPORTED)


def sum_usage(attempts: Iterable[AttemptRecord]) -> Usage | None:
    """Sum the tokens of all attempts; the source is that of the least certain one."""
    known = [a.usage for a in attempts if a.usage is not None]
    if len(known) < 2:
        return known[0] if known else None
    costs = [usage.cost_usd for usage in known if usage.cost_usd is not None]
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in known),
        output_tokens=sum(usage.output_tokens for usage in known),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in known),
        cache_read_tokens=sum(usage.cache_read_tokens for usage in known),
        cache_write_tokens=sum(usage.cache_write_tokens for usage in known),
        source=min((usage.source for usage in known), key=_LEAST_SURE.index),
        cost_usd=sum(costs) if costs else None,
    )
