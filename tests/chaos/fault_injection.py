"""Injects faults around the bot while people talk to it."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from chaos.run import Run
from discord_double.rest import Fault

_MESSAGES = r"/api/channels/\d+/messages"
_KILL_POINTS = ("now", "call", "POST", "PATCH")
"""When a kill happens: at once, at a call of a server, or right after a request took effect."""
_KILL_POINT_S = 5.0
_EVERY_S = {True: (1.0, 5.0), False: (0.2, 0.8)}
"""Between two troubles; in a long run there is time to talk, too."""
_LEAPS_S = (20.0, 70.0, 400.0, 1000.0)
_SPARE_PAGES = 8


class FaultInjector:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._kill_point = ""
        self._faults: dict[str, Callable[[], Awaitable[None]]] = {
            "leap": self._leap,
            "wrong clock": self._set_clock,
            "drop": self._drop,
            "lost session": self._lose_session,
            "reconnect": run.double.gateway.ask_to_reconnect,
            "doubled event": self._double_event,
            "refused request": self._refuse,
            "other order": self._reorder,
            "broken config": self._break_config,
            "busy disk": self._keep_busy,
            "full disk": self._fill_disk,
        }
        if run.size.is_long:
            self._faults |= {"restart": self._restart, "invalid session": self._invalidate}
        self._pending: list[str] = []
        run.recorder.on_call = lambda: self._kill_at("call")
        run.double.rest.before_answer = self._answered

    async def last(self, asking: asyncio.Task[None]) -> None:
        """Inject faults while questions are asked; kills are spread over the questions."""
        run, every = self._run, self._run.size.messages / max(1, self._run.size.kills)
        due = [(n + run.chance.uniform(0.2, 0.8)) * every for n in range(run.size.kills)]
        while not asking.done():
            await asyncio.sleep(run.chance.uniform(*_EVERY_S[run.size.is_long]))
            asked = len(run.recorder.questions)
            if not asked:
                continue
            await self._listening()
            if sum(at <= asked for at in due) > run.kills:
                await self._kill()
            else:
                await self._inject()
        while run.kills < run.size.kills:
            await self._kill()

    async def wait_for_answers(self, limit_s: float) -> None:
        """Advance the time without faults until every question has an answer."""
        run, began = self._run, time.monotonic()
        while run.open_questions() and time.monotonic() - began < limit_s:
            await asyncio.sleep(1.0)
            if run.may_leap(60):
                run.clock.leap(60)

    async def _listening(self) -> None:
        await self._run.double.until(
            lambda: any(s.socket for s in self._run.double.gateway.sessions.values()), timeout_s=60
        )

    async def _inject(self) -> None:
        if not self._pending:
            # Time has to pass, or everything rests for most of the run.
            self._pending = [*self._faults, "leap", "leap"]
            self._run.chance.shuffle(self._pending)
        name = self._pending.pop()
        self._run.fault_counts[name] += 1
        await self._faults[name]()

    async def _kill(self) -> None:
        run = self._run
        self._kill_point = run.chance.choice(_KILL_POINTS)
        if self._kill_point == "now":
            self._kill_at("now")
        try:
            async with asyncio.timeout(_KILL_POINT_S):
                await run.bot.gone()
        except TimeoutError:
            self._kill_at(self._kill_point)
            await run.bot.gone()
        run.kills += 1
        run.fault_counts["kill"] += 1
        run.double.gateway.sessions.clear()
        await run.check_ledger(killed=True)
        if run.chance.random() < 0.3 and run.may_leap(400):
            run.clock.leap(run.chance.choice((130.0, 400.0)))
        await run.bot.start()

    def _answered(self, method: str, path: str) -> None:
        if "/messages" in path:
            self._kill_at(method)

    def _kill_at(self, point: str) -> None:
        if point == self._kill_point:
            self._kill_point = ""
            self._run.bot.kill()

    async def _restart(self) -> None:
        run = self._run
        run.wrong += await run.bot.stop()
        run.double.gateway.sessions.clear()
        await run.check_ledger(killed=False)
        await run.bot.start()

    async def _leap(self) -> None:
        fit = [seconds for seconds in _LEAPS_S if self._run.may_leap(seconds)]
        if fit:
            self._run.clock.leap(self._run.chance.choice(fit))

    async def _set_clock(self) -> None:
        self._run.clock.set_off(self._run.chance.uniform(-20, 20))

    async def _drop(self) -> None:
        self._run.double.gateway.replays = self._run.chance.choice((0, 2))
        await self._run.double.gateway.drop()

    async def _lose_session(self) -> None:
        gateway = self._run.double.gateway
        gateway.forgets_sessions = True
        try:
            await gateway.drop()
            await asyncio.sleep(1.5)
        finally:
            gateway.forgets_sessions = False

    async def _invalidate(self) -> None:
        await self._run.double.gateway.invalidate(resumable=False)

    async def _double_event(self) -> None:
        self._run.double.gateway.doubling.append("MESSAGE_CREATE")

    async def _refuse(self) -> None:
        chance = self._run.chance
        method, status = (
            chance.choice(("POST", "PATCH", "GET")),
            chance.choice((429, 500, 502, 503)),
        )
        path = _MESSAGES + {"POST": "", "PATCH": r"/\d+", "GET": ""}[method]
        done = status != 429 and chance.random() < 0.5
        self._run.double.spoil(
            Fault(method, path, status, after_effect=done, retry_after_s=0.3, times=2)
        )

    async def _reorder(self) -> None:
        self._run.bot.configure(self._run.chance)

    async def _break_config(self) -> None:
        self._run.bot.config.write_text("model: {provider_order: [unknown")
        await asyncio.sleep(0.5)
        self._run.bot.configure(self._run.chance)

    async def _keep_busy(self) -> None:
        long = self._run.size.is_long and self._run.chance.random() < 0.1
        seconds = 11.0 if long else self._run.chance.uniform(0.2, 1.5)
        await asyncio.to_thread(_write_for, self._run.bot.database, seconds)

    async def _fill_disk(self) -> None:
        long = self._run.size.is_long and self._run.chance.random() < 0.3
        seconds = 8.0 if long else self._run.chance.uniform(0.5, 2.0)
        await asyncio.to_thread(_fill, self._run.bot.database, self._run.bot.most_pages, seconds)


def _write_for(database: Path, seconds: float) -> None:
    """Another process that writes for a while, as SQLite sees it."""
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        other.execute("ROLLBACK")


def _fill(database: Path, most_pages: int, seconds: float) -> None:
    """Leave the bot no page for a while."""
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as other:
        (size,) = other.execute("PRAGMA page_size").fetchone()
        (used,) = other.execute("PRAGMA page_count").fetchone()
        (free,) = other.execute("PRAGMA freelist_count").fetchone()
        other.execute("CREATE TABLE ballast (x)")
        try:
            wanted = max(0, most_pages - used) + free + _SPARE_PAGES
            other.execute("INSERT INTO ballast VALUES (zeroblob(?))", (wanted * size,))
            time.sleep(seconds)
        finally:
            other.execute("DROP TABLE ballast")
