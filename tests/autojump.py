"""An event loop whose clock jumps to the next timer when no task can run."""

import asyncio
import selectors


class _Jumping(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or super().select(timeout)
        self.now += timeout
        return []


class AutojumpLoop(asyncio.SelectorEventLoop):
    """For tests without sockets: timers fire at once, in order."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now
