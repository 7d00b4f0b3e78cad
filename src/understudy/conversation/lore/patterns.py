"""Regular expressions of lorebooks, searched with limits on time and memory.

Patterns are untrusted. `regex` has a timeout for searching, but not for compiling, and not within
every step of a search; both can take gigabytes. So patterns are compiled and searched in child
processes where a pool of them is given, with one time budget for all patterns of a prompt. A
pattern that is slow three times is given up until the next start.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple, Protocol

import regex
import structlog

from understudy.errors import WorkerKilled, WorkFailed
from understudy.workers.pool import WorkerLimits, WorkerPool

BUDGET_S = 0.3
"""For all patterns of one prompt."""
SEARCH_S = 0.05
"""For one pattern in one text."""
SEARCHER_LIMITS = WorkerLimits(workers=1, deadline_s=0.5, wait_s=1.0, memory_mb=96, together_mb=96)
_LOG = structlog.get_logger()
_SLOW_S = 0.015
"""Of the budget; a pattern past it is slow where the budget was not enough."""
_MAX_STRIKES = 3
_MAX_PATTERN = 2000
_MAX_LOGGED = 80
_BATCH = 16
_HERE_S = 0.02
"""For patterns that were quick in the child, searched in this process in a text that came later."""
_SLASHED = re.compile(r"/((?:[^/\\]|\\.)+)/([dgimsuvy]*)\Z", re.DOTALL)
_COUNTED_GROUP = re.compile(r"\)\{(\d{1,9})(?:,(\d{1,9}))?")
_COUNTED = re.compile(r"(?<!\))\{(\d{1,9})(?:,(\d{1,9}))?")
_MAX_REPEATS = 100_000
# What JavaScript writes in another way; an escaped character is skipped.
_JAVASCRIPT = re.compile(
    r"\\k<(?P<name>\w+)>|\\u\{(?P<code>[0-9a-fA-F]{1,6})\}|\\.|\[\^\]|\[\]", re.DOTALL
)
_OPTIONS = {"i": regex.I, "m": regex.M, "s": regex.S}
_SEARCH = "understudy.conversation.lore.patterns:search_all"

YES, NO, INVALID, SLOW, SKIPPED = "yes", "no", "invalid", "slow", "skipped"
"""Outcomes of a search; an invalid pattern is plain text."""


class Pattern(NamedTuple):
    body: str
    flags: str
    """Letters of JavaScript's flags."""


class PatternSearch(Protocol):
    def find(self, pattern: Pattern, text: str) -> str:
        """An outcome; takes no longer than the budget that is left."""


@lru_cache(maxsize=8192)
def pattern_in(key: str, *, bare: bool = False) -> Pattern | None:
    """The pattern in `/pattern/flags` (or in all of a `bare` key); `None` is plain text.

    By its form alone: whether it is valid shows when it is compiled.
    """
    slashed = _SLASHED.match(key)
    if len(key) > _MAX_PATTERN:
        return None
    if slashed is None:
        return Pattern(key, "") if bare else None
    # RisuAI writes the slashes in entries with `use_regex` too.
    return Pattern(slashed[1].replace("\\/", "/"), slashed[2])


def search_all(patterns: Sequence[tuple[str, str]], text: str) -> list[tuple[str, float]]:
    """Outcome and seconds for each pattern. Runs in a child process where there is one."""
    return [_searched(Pattern(*pattern), text, SEARCH_S) for pattern in patterns]


def _searched(pattern: Pattern, text: str, timeout_s: float) -> tuple[str, float]:
    began = time.perf_counter()
    try:
        found = _compiled(pattern).search(text, timeout=timeout_s)
        outcome = NO if found is None else YES
    except TimeoutError:
        outcome = SLOW
    except (regex.error, ValueError, OverflowError, RecursionError, MemoryError):
        outcome = INVALID
    return outcome, time.perf_counter() - began


@lru_cache(maxsize=2048)
def _compiled(pattern: Pattern) -> "regex.Pattern[str]":
    if _repeats(pattern.body) > _MAX_REPEATS:
        raise ValueError("it would be compiled into too many parts")
    options = regex.V0
    for letter, option in _OPTIONS.items():
        if letter in pattern.flags:
            options |= option
    return regex.compile(translated(pattern.body), options)


def translated(body: str) -> str:
    """A pattern of JavaScript in the syntax of `regex`."""
    return _JAVASCRIPT.sub(_translation, body)


def _translation(token: re.Match[str]) -> str:
    if token["name"]:
        return f"(?P={token['name']})"
    if token["code"]:
        return re.escape(chr(int(token["code"], 16))) if int(token["code"], 16) < 0x110000 else ""
    return {"[^]": r"[\s\S]", "[]": "(?!)"}.get(token[0], token[0])


def _repeats(body: str) -> int:
    """How often the innermost part occurs where every counted group is inside the next one.

    `regex` copies a group for each of its repetitions: `((a{300}){300}){300}` takes gigabytes.
    """
    groups = (int(most or least) for least, most in _COUNTED_GROUP.findall(body))
    singles = (int(most or least) for least, most in _COUNTED.findall(body))
    return prod(groups) * max(singles, default=1)


class Patterns:
    """What is known of patterns across prompts. Searches in this process where it has no pool,
    which is for a person who tests a lorebook of their own."""

    def __init__(self, pool: WorkerPool | None = None) -> None:
        self.pool = pool
        self._strikes: Counter[Pattern] = Counter()

    @property
    def given_up(self) -> tuple[str, ...]:
        return tuple(p.body for p, count in self._strikes.items() if count >= _MAX_STRIKES)

    def is_given_up(self, pattern: Pattern) -> bool:
        return self._strikes[pattern] >= _MAX_STRIKES

    def find(self, pattern: Pattern, text: str) -> str:
        """Search now, in this process."""
        if self.is_given_up(pattern):
            return SKIPPED
        outcome, _ = _searched(pattern, text, SEARCH_S)
        self.judge(pattern, slow=outcome == SLOW)
        return outcome

    def judge(self, pattern: Pattern, *, slow: bool) -> None:
        if not slow:
            self._strikes.pop(pattern, None)
            return
        self._strikes[pattern] += 1
        if self._strikes[pattern] == _MAX_STRIKES:
            _LOG.warning("lore.pattern_given_up", pattern=pattern.body[:_MAX_LOGGED])

    def batches(self, patterns: Iterable[Pattern]) -> list[list[Pattern]]:
        """Patterns to search together. One with a strike is alone: it may end its process."""
        wanted = [pattern for pattern in patterns if not self.is_given_up(pattern)]
        trusted = [pattern for pattern in wanted if not self._strikes[pattern]]
        together = [trusted[at : at + _BATCH] for at in range(0, len(trusted), _BATCH)]
        return together + [[pattern] for pattern in wanted if self._strikes[pattern]]


class PatternAnswers:
    """The searches of one prompt. `find` notes what is not known yet, `resolve` finds it out."""

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns
        self._known: dict[tuple[Pattern, str], str] = {}
        self._quick: set[Pattern] = set()
        self._missing: dict[str, dict[Pattern, None]] = {}
        self._left_s = BUDGET_S
        self._left_here_s = _HERE_S

    def find(self, pattern: Pattern, text: str) -> str:
        known = self._known.get((pattern, text))
        if known is not None:
            return known
        if self._patterns.pool is None:
            return self._searched_here(pattern, text)
        if pattern in self._quick and self._left_here_s > 0:
            outcome, seconds = _searched(pattern, text, self._left_here_s)
            self._left_here_s -= seconds
            return outcome
        self._missing.setdefault(text, {})[pattern] = None
        return SKIPPED

    async def resolve(self) -> bool:
        """Search what `find` noted; whether that changed what is known."""
        missing, self._missing = self._missing, {}
        before = len(self._known)
        for text, patterns in missing.items():
            for batch in self._patterns.batches(patterns):
                if self._left_s > 0:
                    await self._search(batch, text)
        if self._left_s <= 0 and missing:
            _LOG.info("lore.pattern_budget", given_up=len(self._patterns.given_up))
        return len(self._known) > before

    async def _search(self, batch: list[Pattern], text: str) -> None:
        pool = self._patterns.pool
        assert pool is not None
        began = time.perf_counter()
        try:
            found = await pool.run(_SEARCH, batch, text, kind=list[tuple[str, float]])
        except (WorkerKilled, WorkFailed):
            found = [(SLOW, SEARCH_S)] * len(batch)
        self._left_s -= min(time.perf_counter() - began, sum(s for _, s in found) + SEARCH_S)
        for pattern, (outcome, seconds) in zip(batch, found, strict=True):
            self._note(pattern, text, outcome, seconds)

    def _searched_here(self, pattern: Pattern, text: str) -> str:
        if self._left_s <= 0 or self._patterns.is_given_up(pattern):
            return SKIPPED
        outcome, seconds = _searched(pattern, text, min(SEARCH_S, self._left_s))
        self._left_s -= seconds
        self._note(pattern, text, outcome, seconds)
        return outcome

    def _note(self, pattern: Pattern, text: str, outcome: str, seconds: float) -> None:
        self._known[pattern, text] = outcome
        slow = outcome == SLOW or (self._left_s <= 0 and seconds > _SLOW_S)
        self._patterns.judge(pattern, slow=slow)
        if outcome in (YES, NO) and seconds < _SLOW_S:
            self._quick.add(pattern)
