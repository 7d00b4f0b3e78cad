"""Functions that try a worker out."""

import os
import time


def echo(*values: object) -> tuple[object, ...]:
    return values


def process_id() -> int:
    return os.getpid()


def variables() -> list[str]:
    """Names of the environment's variables."""
    return sorted(os.environ)


def fail(text: str) -> None:
    raise ValueError(text)


def end() -> None:
    os._exit(3)


def spin(seconds: float) -> int:
    """Holds the interpreter for that long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pass
    return 0


def allocate(megabytes: int) -> int:
    """Fills memory step by step and keeps it for a while."""
    held = []
    for _ in range(megabytes // 10):
        held.append(bytearray(b"x") * 10_000_000)
        time.sleep(0.005)
    return len(held)
