"""`understudy doctor`: check servers, tokens and settings, and say what to fix."""

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import AsJson, ConfigFile, load
from understudy.control_characters import visible

if TYPE_CHECKING:
    from rich.table import Table

    from understudy.app.provider_check import Finding
    from understudy.app.setup.discord_token import Check
    from understudy.cli.doctor.report import DoctorReport
    from understudy.config.load import Config
    from understudy.llm.local_discovery import DiscoveredServer

EXIT_PROBLEM = 1

Ask = Annotated[bool, typer.Option(help="Send every provider one short question, to measure it.")]
Yes = Annotated[bool, typer.Option("--yes", help="Add servers found here without asking.")]


def doctor(
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: FBT002
    ask: Ask = True,  # noqa: FBT002
    yes: Yes = False,  # noqa: FBT002
) -> None:
    """Check tokens and every provider with real requests. Exit code 1 on a problem."""
    from understudy.cli.doctor.report import as_row, diagnose
    from understudy.observability.logs import Logs

    loaded = load(config)
    Logs(loaded.settings.logging.model_copy(update={"level": "warning"}), sys.stderr)
    diagnosis = asyncio.run(diagnose(loaded, ask=ask))
    if as_json:
        typer.echo(json.dumps(as_row(diagnosis), ensure_ascii=False))
    else:
        show(loaded, diagnosis)
        if not offer(loaded, diagnosis.nearby, yes=yes) and not diagnosis.ok:
            offer_own_model(loaded)
    if not diagnosis.ok:
        raise typer.Exit(EXIT_PROBLEM)


def show(config: "Config", diagnosis: "DoctorReport") -> None:
    """Print a table, or blocks where it does not fit, and one line of advice per problem."""
    from rich.console import Console
    from rich.measure import Measurement

    from understudy.routing.candidates import waiting_split

    known_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if known_width else 100, highlight=False)
    table = table_of(diagnosis)
    unlimited = console.options.update(max_width=1000)
    if Measurement.get(console, unlimited, table).maximum <= console.width:
        console.print(table)
    else:
        for block in blocks_of(diagnosis):
            console.print(block, markup=False)
    for mark, name, advice in lines_of(diagnosis):
        line = f"{mark} {name}: {advice}" if advice else f"{mark} {name}"
        console.print(visible(line), markup=False)
    console.print("\nSeconds that each may stay silent before the next one is tried:")
    for line in waiting_split(config.settings.model):
        console.print(f"  {line}", markup=False)


def lines_of(diagnosis: "DoctorReport") -> list[tuple[str, str, str]]:
    """Mark, name and advice, without repetitions for providers with several models."""
    lines = [
        ("·" if finding.ok else "✗", finding.candidate.label, advice)
        for finding in diagnosis.findings
        for advice in finding.advice
    ]
    lines += [(_mark(check), check.name, check.advice) for check in diagnosis.checks]
    if all(finding.candidate.off is not None for finding in diagnosis.findings):
        lines.append(
            ("✗", "providers", "none is usable: enable one in the configuration, or set its key")
        )
    return list(dict.fromkeys(lines))


def _mark(check: "Check") -> str:
    return "·" if check.off else "✓" if check.ok else "✗"


def table_of(diagnosis: "DoctorReport") -> "Table":
    from rich.table import Table

    table = Table("provider", "model", "state", "context", "sees", "first word", "speed", "usage")
    for finding in diagnosis.findings:
        table.add_row(
            *map(visible, _cells(finding)), style="dim" if finding.candidate.off else None
        )
    return table


_FIGURES = ("context {}", "images: {}", "first token {}", "{}", "usage {}")
"""The words for the last cells of a row where there is no heading above them."""


def blocks_of(diagnosis: "DoctorReport") -> list[str]:
    """A block of lines per candidate, for narrow terminals."""
    blocks = []
    for finding in diagnosis.findings:
        provider, model, _, *figures = map(visible, _cells(finding))
        known = [
            wording.format(figure)
            for wording, figure in zip(_FIGURES, figures, strict=True)
            if figure not in ("", "?")
        ]
        mark = "·" if finding.candidate.off else "✓" if finding.ok else "✗"
        lines = [f"{mark} {provider}", model, ", ".join([_state(finding), *known])]
        blocks.append("\n    ".join(line for line in lines if line))
    return blocks


def _state(finding: "Finding") -> str:
    return finding.state.replace("_", " ")


def _cells(finding: "Finding") -> tuple[str, ...]:
    report, trial = finding.report, finding.trial
    state = _state(finding)
    model = finding.candidate.model or (report.model if report else None)
    return (
        finding.candidate.label,
        (model or "").rpartition("/")[2] if (model or "").endswith(".gguf") else model or "",
        state if finding.ok else f"[red]{state}[/]",
        str(report.context_length) if report and report.context_length else "?",
        {True: "yes", False: "no", None: "?"}[report.vision if report else None],
        f"{trial.first_output_s:.2f} s" if trial and trial.first_output_s is not None else "",
        f"{trial.tokens_per_s:.0f}/s" if trial and trial.tokens_per_s else "",
        "" if trial is None else "reported" if trial.usage else "none",
    )


def offer(config: "Config", nearby: "tuple[DiscoveredServer, ...]", *, yes: bool) -> bool:
    """Print the lines that would add servers found on this machine; write them on consent.

    Returns whether one was added.
    """
    for near in nearby:
        kind = near.preset or near.engine
        typer.echo(f"\n{kind} answers at {near.base_url} and is not configured. Lines to add:\n")
        if _offer_one(config, near, yes=yes):
            return True
    return False


def offer_own_model(config: "Config") -> None:
    """Print the lines that would add a model that needs no server; write them on consent."""
    from understudy.app.setup.found_servers import OWN_MODEL, may_offer_own_model

    if not may_offer_own_model(config.settings.model):
        return
    typer.echo(
        "\nA small model of the bot's own can answer when nothing else does, without key and "
        "server.\nInstall understudy with the extra [builtin], fetch the model with `understudy "
        "models get`, and add these lines, which make it the last in the order:\n"
    )
    _offer_one(config, OWN_MODEL, yes=False)


def _offer_one(config: "Config", near: "DiscoveredServer", *, yes: bool) -> bool:
    from understudy.app.setup.found_servers import lines_for, place_of, with_server
    from understudy.files import write_file

    model = config.settings.model
    place = place_of(near, model)
    typer.echo(lines_for(near, place, model.provider_order))
    if config.path is None:
        typer.echo("Write a configuration first: understudy config example > config.yaml")
        return False
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"Add it to {config.path}?")):
        return False
    text = config.path.read_text(encoding="utf-8")
    changed = with_server(text, near, place, model.provider_order)
    write_file(config.path, changed.encode(), follow_link=True)
    typer.echo(f"Added it to {config.path} as {place}. Run doctor again to check it.")
    return True
