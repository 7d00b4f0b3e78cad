"""Calls a function on the event loop when a signal arrives, on every operating system."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_signals(numbers: tuple[signal.Signals, ...], call: Callable[[], None]) -> Iterator[None]:
    """Within it, each signal of `numbers` calls `call` on the running loop.

    Windows has no `add_signal_handler`: there the handler of the interpreter passes the call on.
    The event loop wakes up for it since Python 3.8.
    """
    loop = asyncio.get_running_loop()
    try:
        for number in numbers:
            loop.add_signal_handler(number, call)
    except NotImplementedError:
        with _interpreter_handlers(numbers, lambda: loop.call_soon_threadsafe(call)):
            yield
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def _interpreter_handlers(
    numbers: tuple[signal.Signals, ...], call: Callable[[], object]
) -> Iterator[None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        call()

    before = [(number, signal.signal(number, handle)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a process to stop: Ctrl-C, a service manager, Ctrl-Break on Windows."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))
