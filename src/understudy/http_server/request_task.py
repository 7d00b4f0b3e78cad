"""Tasks that answer requests."""

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from understudy.http_server.exchange import Exchange

Work = Coroutine[object, object, None]
_log = structlog.get_logger()


class RequestTask:
    """A task that does the work on one request after the other.

    On Python 3.11, making a task and noting its end costs more than waking one. It ends when it is
    cancelled, so no later request is affected.
    """

    __slots__ = ("_given", "_loop", "_note_idle", "_wake", "task")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        note_idle: "Callable[[RequestTask], bool]",
        exchange: Exchange,
        work: Work,
    ) -> None:
        """Begin with some work. `note_idle` returns whether later requests need the task."""
        self._loop = loop
        self._note_idle = note_idle
        self._given: tuple[Exchange, Work] | None = (exchange, work)
        self._wake: asyncio.Future[None] = loop.create_future()
        self.task = loop.create_task(self._run())
        self.task.add_done_callback(self._ended)

    def begin(self, exchange: Exchange, work: Work) -> None:
        """Do some work; only while there is none."""
        self._given = exchange, work
        self._wake.set_result(None)

    def cancel(self, exchange: Exchange) -> None:
        """Cancel the work on this request, unless it is done."""
        if self._given is not None and self._given[0] is exchange:
            self.task.cancel()

    async def _run(self) -> None:
        while self._given is not None:
            exchange, work = self._given
            try:
                await work
            except Exception as error:  # noqa: BLE001 - a mistake in the application
                log_failure(exchange, error)
            self._given = None
            # Also without an error, where the application has sent no response or a part of it.
            if not exchange.complete:
                exchange.fail()
            if self.task.cancelling() or not self._note_idle(self):
                return
            self._wake = self._loop.create_future()
            del exchange, work  # they hold the connection
            await self._wake

    def _ended(self, _: asyncio.Task[None]) -> None:
        if self._given is not None:
            exchange, work = self._given
            work.close()  # where it has not begun
            exchange.fail()


def log_failure(exchange: Exchange, error: BaseException) -> None:
    path = exchange.raw_path.decode("latin-1")
    _log.error("http.request_failed", path=path, exc_info=error)
