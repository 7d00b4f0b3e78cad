"""What the router gets from outside: clocks, prices and observers, and the operator's rules."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from understudy.llm.pricing import PriceBook
from understudy.routing.records import AttemptObserver
from understudy.routing.timeouts import Deadline

Scrub = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class RouterEnvironment:
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Random = field(default_factory=Random)
    observers: Sequence[AttemptObserver] = ()
    prices: PriceBook = field(default_factory=PriceBook)
    scrub: Scrub | None = None
    """Makes server text fit for records (`debug.error_text`); `None` leaves it out."""


@dataclass(frozen=True, slots=True)
class RouterRules:
    """The operator's settings for all candidates together."""

    deadline: Deadline = field(default_factory=Deadline)
    max_attempts: int | None = None
    stop_on_content_policy: bool = True
    keep_partial_chars: int = 600
    """An interrupted reply that ends with a whole sentence is kept from this length; 0: never."""
    config_rev: str = ""
