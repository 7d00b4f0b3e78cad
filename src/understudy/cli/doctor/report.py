"""Runs all of `doctor`'s checks concurrently and collects their results."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from understudy.app.provider_check import Finding, examine
from understudy.app.setup.discord_permissions import check_permissions
from understudy.app.setup.discord_token import DISCORD_API, Check, check_discord
from understudy.app.setup.found_servers import not_configured
from understudy.cli.doctor.instances import different_configurations
from understudy.cli.doctor.security import unsafe
from understudy.config.load import Config
from understudy.config.providers import Server
from understudy.config.settings import Settings
from understudy.conversation.personas.folder import load_library
from understudy.errors import ConfigError
from understudy.llm.builtin.servers import BuiltinServers
from understudy.llm.client import LLMClient
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.local_discovery import USUAL_PORTS, DiscoveredServer, discover_servers
from understudy.llm.registry import build_client
from understudy.routing.candidates import AUTO_MODEL, build_candidates


@dataclass(frozen=True, slots=True)
class DoctorReport:
    findings: tuple[Finding, ...]
    checks: tuple[Check, ...]
    nearby: tuple[DiscoveredServer, ...]
    """Servers on this machine that are not configured yet."""

    @property
    def ok(self) -> bool:
        usable = any(finding.candidate.off is None for finding in self.findings)
        well = [part.ok for part in self.findings] + [part.ok for part in self.checks]
        return usable and all(well)


@dataclass(frozen=True, slots=True)
class Sources:
    """What to query besides the providers."""

    ports: tuple[int, ...] = USUAL_PORTS
    discord_api: str = DISCORD_API


DEFAULT_SOURCES = Sources()


async def diagnose(config: Config, *, ask: bool, where: Sources = DEFAULT_SOURCES) -> DoctorReport:
    """Run all checks concurrently; a server's problem becomes a finding and never raises.

    With `ask`, each provider gets one short question, except `auto`, which always costs money.
    """
    settings = config.settings
    sessions = HttpSessions()
    builtin = BuiltinServers(sessions, base=config.path.parent if config.path else Path())
    clients: list[LLMClient] = []

    def build(name: str, server: Server) -> LLMClient:
        clients.append(
            build_client(name, server, sessions=sessions, key=server.secret, builtin=builtin)
        )
        return clients[-1]

    try:
        candidates = build_candidates(settings.model, build, settings.orders.values())
        async with asyncio.TaskGroup() as group:
            nearby = group.create_task(discover_servers(sessions, where.ports))
            discord = group.create_task(
                check_discord(settings.discord, sessions, where.discord_api)
            )
            permissions = group.create_task(
                check_permissions(settings.discord, sessions, where.discord_api)
            )
            running = group.create_task(different_configurations(config))
            examinations = [
                group.create_task(examine(c, ask=ask and c.model != AUTO_MODEL)) for c in candidates
            ]
    finally:
        for client in clients:
            await client.aclose()
        await builtin.aclose()
        await sessions.aclose()
    findings = tuple(examination.result() for examination in examinations)
    safety = await asyncio.to_thread(unsafe, config)
    personas = await asyncio.to_thread(_personas, config)
    checks = (
        discord.result(),
        *permissions.result(),
        *_vision(settings, findings),
        *personas,
        *safety,
        *running.result(),
    )
    return DoctorReport(findings, checks, not_configured(nearby.result(), settings.model))


def as_row(diagnosis: DoctorReport) -> dict[str, object]:
    """The output of `--json`: an interface, so members are only ever added."""
    return {
        "ok": diagnosis.ok,
        "providers": [_provider_row(finding) for finding in diagnosis.findings],
        "checks": [
            {"name": check.name, "ok": check.ok, "advice": check.advice}
            for check in diagnosis.checks
        ],
        "nearby": [
            {"base_url": near.base_url, "engine": near.engine, "preset": near.preset}
            for near in diagnosis.nearby
        ],
    }


def _provider_row(finding: Finding) -> dict[str, object]:
    candidate, report, trial = finding.candidate, finding.report, finding.trial
    return {
        "name": candidate.provider,
        "ok": finding.ok,
        "advice": " ".join(_sentence(advice) for advice in finding.advice),
        "engine": candidate.engine,
        "model": candidate.model or (report.model if report else None),
        "state": finding.state,
        "context_length": report.context_length if report else None,
        "vision": report.vision if report else None,
        "streams": trial.streams if trial else None,
        "usage_reported": None if trial is None else trial.usage is not None,
        "first_token_s": _rounded(trial.first_output_s if trial else None),
        "tokens_per_s": _rounded(trial.tokens_per_s if trial else None),
    }


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _vision(settings: Settings, findings: tuple[Finding, ...]) -> tuple[Check, ...]:
    if not settings.vision.enabled:
        return ()
    if any(finding.report is not None and finding.report.vision for finding in findings):
        return (Check("vision", ok=True),)
    advice = (
        "vision is on, but no provider is known to accept images: name a vision model, start a "
        "local engine with --mmproj, or set vision: true on a provider that does"
    )
    return (Check("vision", ok=False, advice=advice),)


def _personas(config: Config) -> tuple[Check, ...]:
    """Files in the folders of personas and lorebooks that cannot be used. Blocking."""
    folder = config.path.parent if config.path else Path()
    try:
        warnings = load_library(config.settings.persona, folder).warnings
    except ConfigError as error:
        return (Check("personas", ok=False, advice=str(error)),)
    # The bot runs without these files, so they are no failure.
    return tuple(Check("personas", ok=True, advice=f"not used: {text}") for text in warnings)
