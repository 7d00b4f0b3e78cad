"""Background probes: what every server's models can do and cost, and which engines are up.

Saves the results in a file, so that they are known right after the next start, also while a server
is down.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from understudy.errors import NOT_JSON, HoldScope
from understudy.files import write_file
from understudy.llm.capabilities import Capabilities, CapabilityBook, ModelKey
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.pricing import Price, PriceBook
from understudy.routing.candidates import Candidate, ScopeKey
from understudy.routing.cooldown import CooldownBoard, State

_log = structlog.get_logger()
_HOSTED_EVERY_S = 24 * 3600.0
_LOCAL_EVERY_S = 300.0
"""A local server may be restarted with another model."""
_UNKNOWN_EVERY_S = 60.0
_ROUND_S = 15.0


class _Finding(msgspec.Struct, frozen=True):
    """The result of one probe of one model."""

    at: float
    """Wall clock."""
    vision: bool | None = None
    n_ctx: int | None = None
    slots: int | None = None
    price: Price | None = None
    opens_thought: bool | None = None


class _Kept(msgspec.Struct, frozen=True):
    """The file. Names are those of candidates: `provider/model`."""

    findings: dict[str, _Finding]
    tokens_per_byte: dict[str, float]


class CapabilityProber:
    """Feeds the capability book and the price book. Owned by the caller of `run`."""

    def __init__(
        self,
        candidates: Callable[[], Sequence[Candidate]],
        book: CapabilityBook,
        prices: PriceBook,
        *,
        file: Path | None,
        wall: Callable[[], float],
    ) -> None:
        self._candidates = candidates
        self._book = book
        self._prices = prices
        self._file = file
        self._wall = wall
        self._found: dict[str, _Finding] = {}
        self._tried: dict[str, float] = {}
        self._missing: set[str] = set()
        self._saved: dict[str, float] = {}

    async def run(self) -> None:
        """Load earlier results, then probe until cancelled."""
        await self.recall()
        while True:
            await self.look()
            await asyncio.sleep(_ROUND_S)

    async def recall(self) -> None:
        """Load the findings of an earlier run, and the token ratios it learned."""
        if self._file is None:
            return
        ratios: dict[str, float] = {}
        with suppress(OSError, *NOT_JSON):
            kept = msgspec.json.decode(await asyncio.to_thread(self._file.read_bytes), type=_Kept)
            self._found, ratios = dict(kept.findings), kept.tokens_per_byte
        for candidate in self._candidates():
            if candidate.name in self._found:
                self._tell(candidate, self._found[candidate.name])
            if candidate.name in ratios:
                self._book.set_tokens_per_char(candidate.key, ratios[candidate.name])
        self._saved = self._ratios()

    async def save(self) -> None:
        """Write the file; does nothing where there is none."""
        if self._file is not None:
            self._saved = self._ratios()
            await asyncio.to_thread(self._keep, self._file, _Kept(self._found, self._saved))

    async def look(self) -> None:
        """Probe every candidate whose results have expired, one server after the other."""
        due = [c for c in self._candidates() if c.off is None and self._is_due(c)]
        for candidate in due:
            self._tried[candidate.name] = self._wall()
            self._take(candidate, await candidate.client.probe(candidate.model))
        if due or self._ratios() != self._saved:
            await self.save()

    async def probe_local(self, limit_s: float) -> None:
        """Probe the local engines once, all at a time, for a process too short-lived to `run`.

        A hosted server needs none: it refuses loudly, and its context is large.
        """
        local = [c for c in self._candidates() if c.off is None and c.local]
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s), asyncio.TaskGroup() as probes:
                for candidate in local:
                    probes.create_task(self._probe(candidate))

    async def _probe(self, candidate: Candidate) -> None:
        self._take(candidate, await candidate.client.probe(candidate.model))

    def _ratios(self) -> dict[str, float]:
        learned = self._book.learned_tokens_per_char()
        return {c.name: learned[c.key] for c in self._candidates() if c.key in learned}

    def _is_due(self, candidate: Candidate) -> bool:
        found = self._found.get(candidate.name)
        now = self._wall()
        if now - self._tried.get(candidate.name, -1e12) < _UNKNOWN_EVERY_S:
            return False
        every = _LOCAL_EVERY_S if candidate.local else _HOSTED_EVERY_S
        return found is None or now - found.at >= every

    def _take(self, candidate: Candidate, report: ProbeReport) -> None:
        if report.state is ProbeState.MODEL_MISSING:
            if candidate.name not in self._missing:
                self._missing.add(candidate.name)
                _log.warning("model.missing", candidate=candidate.name, advice=report.advice)
            return
        if report.state is not ProbeState.READY:
            return
        self._missing.discard(candidate.name)
        finding = _Finding(
            self._wall(),
            report.vision,
            report.context_length,
            report.max_concurrency,
            report.price,
            report.opens_thought,
        )
        self._found[candidate.name] = finding
        self._tell(candidate, finding)

    def _tell(self, candidate: Candidate, finding: _Finding) -> None:
        facts = Capabilities(
            vision=finding.vision,
            n_ctx=finding.n_ctx,
            opens_thought=finding.opens_thought,
            slots=finding.slots,
        )
        self._book.discover(ModelKey(candidate.provider, candidate.model), facts)
        prices = {
            c.model: found.price
            for c in self._candidates()
            if c.provider == candidate.provider
            and (found := self._found.get(c.name)) is not None
            and found.price is not None
        }
        self._prices.learn(candidate.provider, prices)

    def _keep(self, file: Path, kept: _Kept) -> None:
        try:
            write_file(file, msgspec.json.encode(kept), private=True)
        except OSError as error:
            _log.warning("scout.not_kept", file=str(file), error=error.strerror)


_FIRST_LOOK_S = 2.0
_SLOWEST_S = 10.0
_SLOWING = 1.5
_PROBE_LIMIT_S = 5.0


class PollRight(Protocol):
    """The right of one process of all to poll a server; another gets it when that ends."""

    @property
    def held(self) -> bool: ...


PollRights = Callable[[ScopeKey], AbstractAsyncContextManager[PollRight]]
"""Acquires the right where it is free, and releases it on exit."""


class HealthMonitor:
    """Polls the health page of each local server whose endpoint is left out.

    Of several processes, one polls each server. Only cooldowns of the whole server are closed: an
    engine whose health page answers may still hang on a prompt, so a model's own cooldown ends by
    time alone. Where there is no health page, the next request finds out.
    """

    def __init__(
        self, board: CooldownBoard, book: CapabilityBook, clock: Callable[[], float]
    ) -> None:
        self._board = board
        self._book = book
        self._clock = clock
        self.rights: PollRights | None = None
        """Set where other processes use the same servers."""
        self._watches: dict[ScopeKey, asyncio.Task[None]] = {}

    def watch(self, candidate: Candidate) -> None:
        """Start to poll, unless that server is polled already."""
        key = candidate.scope_key(HoldScope.ENDPOINT)
        if key in self._watches or self._board.state(key, self._clock()) is State.CLOSED:
            return
        watch = asyncio.get_running_loop().create_task(self._watch(candidate, key))
        self._watches[key] = watch
        watch.add_done_callback(lambda _: self._watches.pop(key, None))

    async def discover(self, candidate: Candidate) -> ProbeReport:
        """Probe a server once and store what it reports about its model."""
        report = await candidate.client.probe(candidate.model)
        self._book.discover(
            candidate.key,
            Capabilities(
                vision=report.vision,
                n_ctx=report.context_length,
                opens_thought=report.opens_thought,
                slots=report.max_concurrency,
            ),
        )
        return report

    async def aclose(self) -> None:
        watches = list(self._watches.values())
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, candidate: Candidate, key: ScopeKey) -> None:
        if self.rights is None:
            await self._poll(candidate, key, lambda: True)
            return
        async with self.rights(key) as right:
            await self._poll(candidate, key, lambda: right.held)

    async def _poll(
        self, candidate: Candidate, key: ScopeKey, may_poll: Callable[[], bool]
    ) -> None:
        wait_s = _FIRST_LOOK_S
        while may_poll() and self._board.state(key, self._clock()) is not State.CLOSED:
            # Held until the next poll is over, so that no user request has to be the probe.
            self._board.extend(key, self._clock() + wait_s + _PROBE_LIMIT_S)
            await asyncio.sleep(wait_s)
            if not may_poll():
                return
            report = await self.discover(candidate)
            if report.state is ProbeState.READY and report.health_endpoint:
                self._board.succeed((key,), self._clock())
            elif report.state not in (ProbeState.UNREACHABLE, ProbeState.LOADING):
                return
            elif report.state is ProbeState.UNREACHABLE:
                wait_s = min(wait_s * _SLOWING, _SLOWEST_S)
