"""What the conformance suite asks of a router: anything that can be put into this shape can be
measured by the same table."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self


class Sink(StrEnum):
    EDITABLE = "editable"
    APPEND_ONLY = "append_only"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Site:
    """Two servers in order, and the limits of the first; the fallback has a minute for each."""

    primary_url: str
    fallback_url: str | None
    first_token_s: float
    idle_s: float
    connect_s: float = 20.0
    commit_s: float = 45.0
    total_s: float = 180.0
    api_key: str = "sk-conformance-canary"


@dataclass(frozen=True, slots=True)
class Wish:
    """One reply wanted."""

    sink: Sink
    image: bool = False
    may_trim_prompt: bool = True
    large: bool = False
    """A prompt of several megabytes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the sink ended up with."""

    text: str
    """As shown at the end, replaced text left out."""
    first_visible_s: float | None
    took_s: float
    failed: str = ""
    """Why there is no whole reply: an error class, or the reason given for being offline."""
    retry_in_s: float | None = None
    record: tuple[str, ...] = ()
    """One word per attempt, `ok` or its error class; empty where a router keeps no records."""
    bad_frames: int = 0


class Subject(ABC):
    """An open router over two servers. The suite makes one for each row and closes it after."""

    def __init__(self, site: Site) -> None:
        self.site = site

    @abstractmethod
    async def ask(self, wish: Wish) -> Outcome:
        """One whole reply; never raises for what its servers do."""

    @abstractmethod
    async def abandon(self, wish: Wish, when: Awaitable[None] | None) -> float:
        """Begin a reply and leave `when` that has happened, without it once text has come.

        Returns the time of leaving on the monotonic clock."""

    @abstractmethod
    def unread(self, wish: Wish) -> AbstractAsyncContextManager[None]:
        """A reply that is asked for, and of which nothing is read while the context is entered."""

    @abstractmethod
    def pass_time(self, seconds: float) -> None:
        """Let the router believe that so much time has passed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
