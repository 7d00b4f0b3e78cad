"""Clocks that jump: one file contains how far they are ahead of the machine's."""

import mmap
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LAYOUT = struct.Struct("dd")


@dataclass(frozen=True, slots=True)
class ClockOffset:
    wall_s: float
    steady_s: float


@contextmanager
def reading(path: Path) -> Iterator[Callable[[], ClockOffset]]:
    """How far the clocks are ahead, at any moment."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as shared:
        yield lambda: ClockOffset(*_LAYOUT.unpack_from(shared))


class JumpingClock:
    """The time of the servers (`now`, which only jumps forward) and of the bot's clocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._leapt_s = 0.0
        self._off_s = 0.0
        self._write()

    def now(self) -> float:
        """The time of everything but the bot."""
        return time.time() + self._leapt_s

    def leap(self, seconds: float) -> None:
        """Time passes for all, as while a machine sleeps."""
        self._leapt_s += seconds
        self._write()

    def set_off(self, seconds: float) -> None:
        """The bot's wall clock is wrong by so much from now on; cooldowns do not go by it."""
        self._off_s = seconds
        self._write()

    def _write(self) -> None:
        data = _LAYOUT.pack(self._leapt_s + self._off_s, self._leapt_s)
        if not self.path.exists():
            self.path.write_bytes(data)
        with self.path.open("r+b") as file:
            file.write(data)
