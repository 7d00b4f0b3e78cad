"""Formats the attempts of a reply for people: `understudy why`, `/why`, the page."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from understudy.errors import HoldScope
from understudy.llm.messages import Usage, UsageSource
from understudy.routing.records import (
    REPETITION,
    AttemptRecord,
    CostSource,
    OfflineReason,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
    verdict,
)

_HELD = {
    HoldScope.ENDPOINT: "its server",
    HoldScope.KEY: "its key",
    HoldScope.KEY_FREE: "its free models",
    HoldScope.MODEL: "this model",
    HoldScope.REQUEST: "this request",
}
_ENDINGS = {
    ReplyOutcome.DELIVERED: "Delivered",
    ReplyOutcome.PARTIAL: "Delivered in part, then cut off",
    ReplyOutcome.OFFLINE: "No provider could answer",
    ReplyOutcome.CANCELLED: "Stopped",
    ReplyOutcome.REJECTED: "Refused",
}
_OFFLINE = {
    OfflineReason.ALL_RATE_LIMITED: "all are rate-limited",
    OfflineReason.ALL_DOWN: "all are down",
    OfflineReason.DEADLINE: "time ran out",
    OfflineReason.NO_CAPABLE: "none of them can take this",
    OfflineReason.TOO_LONG: "the prompt does not fit the context of any of them",
    OfflineReason.REJECTED: "the request was refused",
    OfflineReason.CONFIG: "keys or credit need their operator",
    OfflineReason.BUDGET: "the day's budget is used up",
    OfflineReason.BUSY: "too many requests are waiting",
}
_MOST_ID_CHARS = 64


def format_runs(runs: Sequence[ReplyRecord]) -> str:
    """Every run of one reply, in lines of text. Times are UTC."""
    return "\n\n".join("\n".join(_run(run, number)) for number, run in enumerate(runs))


def unknown_reply(reply_id: str) -> str:
    """The message for an unknown reply id, with the id made printable."""
    printable = "".join(c for c in reply_id if c.isprintable())[:_MOST_ID_CHARS]
    return (
        f"No reply {printable!r} is in the ledger. The id is in the log lines of the reply "
        "and on the web page; replies older than storage.usage_days are deleted."
    )


def money(usd: float) -> str:
    """US dollars with as many places as the amount needs: `$12.50`, `$0.00042`."""
    if usd >= 0.01 or usd == 0:
        return f"${usd:,.2f}"
    return f"${usd:.2g}" if usd >= 1e-4 else f"${usd:.7f}".rstrip("0")


def _run(run: ReplyRecord, number: int) -> Iterator[str]:
    began = datetime.fromtimestamp(run.ts, UTC)
    later = f" (try {number + 1})" if number else ""
    yield f"Reply {run.request_id}{later}, {run.sink}, {began:%Y-%m-%d %H:%M:%S} UTC"
    yield _ending(run)
    if run.order_name:
        yield f"Order: {run.order_name}."
    for attempt in run.attempts:
        yield f"  {_clock(attempt.ts)}  {_what(attempt)}"
        for more in _consequences(attempt):
            yield f"            {more}"
    if not run.attempts:
        yield "  No provider was asked."


def _ending(run: ReplyRecord) -> str:
    parts = [_ENDINGS[run.outcome]]
    if run.offline_reason is not None:
        parts[0] += f": {_OFFLINE[run.offline_reason]}"
    parts.append(f"{run.t_total_ms / 1000:.1f} s")
    if run.t_first_visible_ms is not None:
        parts.append(f"first text after {run.t_first_visible_ms / 1000:.1f} s")
    if run.usage is not None:
        parts.append(f"{_tokens(run.usage)} in all")
    if run.cost_usd is not None:
        parts.append(money(run.cost_usd))
    if run.retry_at is not None:
        parts.append(f"better from {_clock(run.retry_at)}")
    return ", ".join(parts) + "."


def _what(attempt: AttemptRecord) -> str:
    model = attempt.model_served or attempt.model_requested
    who = f"{attempt.label} ({model})" if model else attempt.label
    if attempt.outcome is Outcome.SKIPPED:
        return f"{who}: skipped, {verdict(attempt)}{_cooldown_note(attempt)}"
    code = f" (HTTP {attempt.http_status})" if (attempt.http_status or 200) >= 400 else ""
    role = "" if attempt.role == "normal" else f", {attempt.role.replace('_', ' ')}"
    return f"{who}: {verdict(attempt)}{code} after {attempt.t_total_ms / 1000:.1f} s{role}"


def _cooldown_note(attempt: AttemptRecord) -> str:
    since = f" after {attempt.error_class.replace('_', ' ')}" if attempt.error_class else ""
    until = "" if attempt.held_until is None else f" until {_clock(attempt.held_until)}"
    return since + until


def _consequences(attempt: AttemptRecord) -> Iterator[str]:
    change = attempt.breaker
    if attempt.retry_after_s is not None:
        yield f"asked us to wait {attempt.retry_after_s:g} s"
    if change is not None and change.after == "open":
        until = attempt.held_until or attempt.ts + attempt.t_total_ms / 1000 + change.hold_s
        yield f"{_HELD[change.scope]} is in cooldown until {_clock(until)}"
    if change is not None and change.after == "closed":
        yield f"{_HELD[change.scope]} is in use again"
    if attempt.t_first_output_ms is not None:
        yield f"first output after {attempt.t_first_output_ms / 1000:.1f} s"
    if REPETITION in attempt.degraded:
        yield "its end repeated itself and was cut"
    if left_out := [what for what in attempt.degraded if what != REPETITION]:
        yield f"left out for it: {', '.join(left_out)}"
    if attempt.outcome is not Outcome.SKIPPED:
        yield from _bill(attempt)


def _bill(attempt: AttemptRecord) -> Iterator[str]:
    if attempt.usage is not None:
        yield f"{_tokens(attempt.usage)}, {_cost(attempt)}"
    elif attempt.maybe_billed:
        yield "it reported no tokens and may still bill them"
    elif attempt.outcome is Outcome.OK:
        yield f"it reported no tokens, {_cost(attempt)}"


def _cost(attempt: AttemptRecord) -> str:
    if attempt.cost_usd is None:
        return "cost unknown"
    if attempt.cost_source is CostSource.UNBILLED:
        return "no bill: an engine of your own"
    listed = " by its price list" if attempt.cost_source is CostSource.LISTED else ""
    return money(attempt.cost_usd) + listed


def _tokens(usage: Usage) -> str:
    extra = [
        f"{count} {what}"
        for count, what in (
            (usage.cache_read_tokens, "from the cache"),
            (usage.reasoning_tokens, "of them thoughts"),
        )
        if count
    ]
    if usage.source in (UsageSource.ESTIMATED, UsageSource.DERIVED):
        extra.append(usage.source.value)
    return f"{usage.input_tokens}→{usage.output_tokens} tokens" + (
        f" ({', '.join(extra)})" if extra else ""
    )


def _clock(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%H:%M:%S}"
