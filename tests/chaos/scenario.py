"""Plays one run from its preparation to the verdict."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chaos.clock import JumpingClock
from chaos.fault_injection import Unrest
from chaos.invariants import Verdict, judge
from chaos.observations import Witness
from chaos.process import BotProcess
from chaos.run import Run
from chaos.run_size import Size
from chaos.servers import model_servers
from chaos.users import ask_all
from discord_double.double import DiscordDouble


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    story: str
    """What happened, in figures."""
    line: str
    """What came of it, in one line."""


async def play(size: Size, folder: Path) -> Outcome:
    """Everything goes wrong, then nothing more, then the bot is told to stop."""
    began = time.monotonic()
    async with _prepared(size, folder) as run:
        unrest = Unrest(run)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask_all(run))
            group.create_task(unrest.last(asking))
        await unrest.calm(limit_s=120 if size.is_long else 40)
        run.wrong += await run.bot.stop()
        await run.take_stock(killed=False)
        verdict = judge(run.evidence())
    return Outcome(verdict, _story(run, time.monotonic() - began), _line(run, verdict))


@asynccontextmanager
async def _prepared(size: Size, folder: Path) -> AsyncIterator[Run]:
    async with AsyncExitStack() as stack:
        double = await stack.enter_async_context(DiscordDouble())
        witness, clock = Witness(), JumpingClock(folder / "clock")
        double.world.clock = clock.now
        servers = await stack.enter_async_context(model_servers(witness, size.seed, folder))
        bot = BotProcess(double, clock, servers, folder)
        stack.push_async_callback(bot.aclose)
        chance = Random(size.seed)
        bot.configure(chance)
        yield Run(size, chance, double, clock, witness, bot)


def _story(run: Run, seconds: float) -> str:
    calls = run.witness.calls
    met = ", ".join(f"{count} x {name}" for name, count in sorted(run.stirs.items()))
    return (
        f"seed {run.size.seed}: {run.faulted / len(calls):.0%} of {len(calls)} attempts faulted,"
        f" {sum(run.interrupted.values())} cut off by kills; {met};"
        f" {run.bot.peak_mb} MB at most, {seconds:.0f} s"
    )


def _line(run: Run, verdict: Verdict) -> str:
    return (
        f"{len(run.witness.questions)} messages, {run.kills} kills, {run.faulted} faulted attempts:"
        f" {len(verdict.lost)} lost, {len(verdict.doubled)} doubled,"
        f" {len(verdict.violations)} violations"
    )
