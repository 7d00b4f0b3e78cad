"""One run from its preparation to the verdict."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chaos.clock import JumpingClock
from chaos.fault_injection import FaultInjector
from chaos.invariants import Verdict, check
from chaos.observations import Recorder
from chaos.process import BotProcess
from chaos.run import Run
from chaos.run_size import Size
from chaos.servers import model_servers
from chaos.users import ask_all
from discord_double.double import DiscordDouble


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    summary: str
    """Figures of the run."""
    line: str
    """The result in one line."""


async def play(size: Size, folder: Path) -> Outcome:
    """Inject faults, then wait for all answers without faults, then stop the bot."""
    began = time.monotonic()
    async with _prepared(size, folder) as run:
        injector = FaultInjector(run)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask_all(run))
            group.create_task(injector.last(asking))
        await injector.wait_for_answers(limit_s=120)
        run.wrong += await run.bot.stop()
        await run.check_ledger(killed=False)
        verdict = check(run.evidence())
    return Outcome(verdict, _summary(run, time.monotonic() - began), _line(run, verdict))


@asynccontextmanager
async def _prepared(size: Size, folder: Path) -> AsyncIterator[Run]:
    async with AsyncExitStack() as stack:
        double = await stack.enter_async_context(DiscordDouble())
        recorder, clock = Recorder(), JumpingClock(folder / "clock")
        double.state.clock = clock.now
        servers = await stack.enter_async_context(model_servers(recorder, size.seed, folder))
        bot = BotProcess(double, clock, servers, folder)
        stack.push_async_callback(bot.aclose)
        chance = Random(size.seed)
        bot.configure(chance)
        yield Run(size, chance, double, clock, recorder, bot)


def _summary(run: Run, seconds: float) -> str:
    calls = run.recorder.calls
    met = ", ".join(f"{count} x {name}" for name, count in sorted(run.fault_counts.items()))
    return (
        f"seed {run.size.seed}: {run.faulted / len(calls):.0%} of {len(calls)} attempts faulted,"
        f" {sum(run.interrupted.values())} cut off by kills; {met};"
        f" {run.bot.peak_mb} MB at most, {seconds:.0f} s"
    )


def _line(run: Run, verdict: Verdict) -> str:
    return (
        f"{len(run.recorder.questions)} messages, {run.kills} kills,"
        f" {run.faulted} faulted attempts:"
        f" {len(verdict.lost)} lost, {len(verdict.doubled)} doubled,"
        f" {len(verdict.violations)} violations"
    )
