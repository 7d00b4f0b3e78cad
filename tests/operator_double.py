"""Test double behind the operator's page: a ledger in memory, candidates that tests change."""

from dataclasses import dataclass, field, replace

from understudy.config.load import parse_config
from understudy.errors import ConfigError, ErrorClass
from understudy.observability.log_tail import LogTail
from understudy.platforms.web.attempt_feed import AttemptFeed
from understudy.platforms.web.config_page import ConfigText
from understudy.platforms.web.gateway_keys import GatewayKeyActions, GatewayView, KeyView
from understudy.platforms.web.operator import CandidateView, OperatorActions, ServerTest
from understudy.routing.client_keys import KeyLimitValues
from understudy.routing.ledger import AttemptFilter, Grouping, Spent, UsagePoint, UsageRow
from understudy.routing.records import AttemptRecord, Outcome, ReplyOutcome, ReplyRecord
from web_double import attempt


def reply(reply_id: str, ts: float, *attempts: AttemptRecord) -> ReplyRecord:
    won = attempts[-1].outcome is Outcome.OK
    outcome = ReplyOutcome.DELIVERED if won else ReplyOutcome.OFFLINE
    return ReplyRecord(
        ts=ts,
        request_id=reply_id,
        sink="web",
        outcome=outcome,
        attempts=attempts,
        winner=attempts[-1] if won else None,
        t_first_visible_ms=420 if won else None,
        t_total_ms=1400,
        usage=attempts[-1].usage,
    )


def failed(label: str, ts: float, error: ErrorClass) -> AttemptRecord:
    return attempt(label, Outcome.ERROR, error, ts=ts)


@dataclass(slots=True)
class Ledger:
    """Answers from a list of replies."""

    replies: list[ReplyRecord] = field(default_factory=list)

    async def usage(self, by: Grouping, since: float, until: float) -> tuple[UsageRow, ...]:
        groups: dict[str, list[AttemptRecord]] = {}
        for one in self.replies:
            for tried in one.attempts:
                if since <= tried.ts < until:
                    key = tried.model_requested if by is Grouping.MODEL else tried.provider
                    groups.setdefault(key, []).append(tried)
        return tuple(_row(key, tried) for key, tried in groups.items())

    async def series(self, since: float, until: float, step_s: int) -> tuple[UsagePoint, ...]:
        groups: dict[tuple[float, str], list[AttemptRecord]] = {}
        for one in self.replies:
            for tried in one.attempts:
                if since <= tried.ts < until:
                    start = since + (tried.ts - since) // step_s * step_s
                    groups.setdefault((start, tried.provider), []).append(tried)
        return tuple(
            UsagePoint(start, _row(name, tried)) for (start, name), tried in groups.items()
        )

    async def spent(self, since: float) -> dict[str, Spent]:
        return {}

    async def reply(self, reply_id: str) -> tuple[ReplyRecord, ...]:
        return tuple(one for one in self.replies if one.request_id == reply_id)

    async def attempts(
        self, wanted: AttemptFilter, limit: int, skip: int
    ) -> tuple[AttemptRecord, ...]:
        found = [
            one
            for run in self.replies
            for one in run.attempts
            if one.ts < wanted.until
            and wanted.outcome in (None, one.outcome)
            and all(word.lower() in f"{one.label} {one.model_requested}" for word in wanted.words)
        ]
        return tuple(sorted(found, key=lambda one: -one.ts)[skip : skip + limit])

    async def recent(self, limit: int) -> tuple[ReplyRecord, ...]:
        return tuple(self.replies[-limit:][::-1])


def _row(provider: str, tried: list[AttemptRecord]) -> UsageRow:
    used = [one.usage for one in tried if one.usage]
    costs = [one.cost_usd for one in tried if one.cost_usd is not None]
    firsts = [one.t_first_output_ms for one in tried if one.t_first_output_ms is not None]
    return UsageRow(
        key=provider,
        replies=sum(one.outcome is Outcome.OK for one in tried),
        attempts=len(tried),
        failures=sum(one.outcome is Outcome.ERROR for one in tried),
        input_tokens=sum(usage.input_tokens for usage in used) if used else None,
        output_tokens=sum(usage.output_tokens for usage in used) if used else None,
        reasoning_tokens=None,
        cache_read_tokens=None,
        estimated_tokens=0,
        cost_usd=sum(costs) if costs else None,
        unknown_costs=sum(one.cost_usd is None and one.usage is not None for one in tried),
        first_output_ms=sum(firsts) / len(firsts) if firsts else None,
        total_ms=None,
    )


@dataclass(slots=True)
class OperatorDouble:
    """Records the operator's actions."""

    candidates: list[CandidateView]
    ledger: Ledger = field(default_factory=Ledger)
    feed: AttemptFeed = field(default_factory=AttemptFeed)
    level: str = "info"
    resets: list[str | None] = field(default_factory=list)
    broken_config: bool = False
    tests: list[str] = field(default_factory=list)
    keys: list[KeyView] = field(default_factory=list)
    log: LogTail = field(default_factory=LogTail)

    async def reload(self) -> str:
        if self.broken_config:
            raise ConfigError("config.yaml line 3: model.provider_ordr is not known")
        return "Configuration reloaded (2ba54e70)."

    def set_level(self, level: str) -> None:
        self.level = level

    async def test(self, provider: str) -> tuple[ServerTest, ...]:
        self.tests.append(provider)
        return (ServerTest("m", True, "ready", "it reports no usage", 0.31, 42.0),)

    async def read_config(self) -> ConfigText:
        return ConfigText("model: {}\n", "digest", "")

    async def save_config(self, text: str, _digest: str) -> str:
        parse_config(text, {})
        return "Configuration reloaded."

    async def make_key(self, name: str, limits: KeyLimitValues) -> str:
        self.keys.append(
            KeyView(name, f"key:{name}", limits, in_configuration=False, created_at=1_790_000_000.0)
        )
        return "sk-understudy-made"

    async def limit_key(self, name: str, limits: KeyLimitValues) -> None:
        self.keys[:] = [replace(k, limits=limits) if k.name == name else k for k in self.keys]

    async def revoke_key(self, name: str) -> None:
        self.keys[:] = [
            replace(k, revoked_at=1_790_000_000.0) if k.name == name else k for k in self.keys
        ]

    def key_actions(self) -> GatewayKeyActions:
        return GatewayKeyActions(
            lambda: GatewayView(True, "http://127.0.0.1:8006/v1", self.keys),
            self.make_key,
            self.limit_key,
            self.revoke_key,
        )

    def actions(self) -> OperatorActions:
        return OperatorActions(
            self.reload, self.resets.append, lambda: self.level, self.set_level, self.test
        )
