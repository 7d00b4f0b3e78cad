"""A request to an address that may not want `/v1`: a 404 sends it again without."""

from collections.abc import Callable, Sequence

from understudy.errors import ProviderError
from understudy.llm.client import EventReceiver, Generation
from understudy.llm.messages import Finished, Output

_NOT_FOUND = 404


class AddressFallback:
    """Passes one reply on; a 404 before anything else starts it once more at the other address."""

    under: Generation
    """The request that is under way."""

    def __init__(
        self,
        receiver: EventReceiver,
        elsewhere: Callable[[EventReceiver], Generation],
        settle: Callable[[bool], None],
    ) -> None:
        """`elsewhere` starts the request at the other address. `settle` gets whether the other
        address is the right one, once an answer shows it."""
        self._receiver = receiver
        self._elsewhere = elsewhere
        self._settle = settle
        self._first_error: ProviderError | None = None
        self._settled = False

    def pause_reading(self) -> None:
        self.under.pause_reading()

    def resume_reading(self) -> None:
        self.under.resume_reading()

    def close(self) -> None:
        self.under.close()

    def output(self, events: Sequence[Output]) -> None:
        self._conclude()
        self._receiver.output(events)

    def finished(self, finished: Finished) -> None:
        self._conclude()
        self._receiver.finished(finished)

    def failed(self, error: ProviderError) -> None:
        missing = error.http_status == _NOT_FOUND
        if missing and self._first_error is None and not self._settled:
            self._first_error = error
            try:
                self.under = self._elsewhere(self)
            except ProviderError as unsent:
                error = unsent
            else:
                return
        elif missing and self._first_error is not None and not self._settled:
            error = self._first_error  # neither address has it
        elif error.http_status is not None:
            self._conclude()
        self._receiver.failed(error)

    def _conclude(self) -> None:
        if not self._settled:
            self._settled = True
            self._settle(self._first_error is not None)
