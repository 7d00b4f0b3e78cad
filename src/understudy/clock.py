"""The two clocks that everything else is handed."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """What is stored or shown goes by `wall`; cooldowns and deadlines go by `steady`."""

    wall: Callable[[], float] = time.time
    """Seconds since the epoch; it may be set, also back."""
    steady: Callable[[], float] = time.monotonic
