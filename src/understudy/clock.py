"""The two clocks that everything else is handed, and the units that time is counted in."""

import time
from collections.abc import Callable
from dataclasses import dataclass

MINUTE_S = 60
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Clock:
    """Stored and displayed times come from `wall`; cooldowns and deadlines from `monotonic`."""

    wall: Callable[[], float] = time.time
    """Seconds since the epoch. The operator may set it, also backwards."""
    monotonic: Callable[[], float] = time.monotonic


SYSTEM_CLOCK = Clock()
