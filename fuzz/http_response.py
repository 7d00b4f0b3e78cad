"""The HTTP client's connection as a fuzz target: bytes of a server, without a socket."""

import asyncio
import time

from understudy.errors import ProviderError
from understudy.llm.client import Exchange
from understudy.llm.http.call import Call
from understudy.llm.http.connection import Connection
from understudy.llm.http.encoding import STEP_BYTES
from understudy.llm.http.parser import Headers


def http_response(data: bytes) -> None:
    """What a receiver gets does not depend on how the bytes are split into reads."""
    cut = sum(data) % len(data) if data else 0
    whole, pieces = _Server([data]), _Server([data[:cut], data[cut:]])

    assert whole.outcome() == pieces.outcome()
    one, other = sorted((whole.body, pieces.body), key=len)
    assert other.startswith(one)
    assert one == other or whole.calls[-1] == "failed"  # a corrupt encoding: known a step later
    assert not whole.reused or whole.calls[-1] == "end"


class _Server(asyncio.Transport):
    """Feeds one response to a connection; it is its transport, pool and receiver in one."""

    def __init__(self, reads: list[bytes]) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.facts: list[object] = []
        self.body = b""
        self.reused = False
        self._aborted = False
        call = Call(self, Exchange(), b"", b"", time.monotonic)
        call.holder = self
        connection = Connection(self, call)
        connection.connection_made(self)
        for read in reads:
            if read and not self._aborted and not self.reused:
                connection.data_received(read)
        if not self._aborted:
            connection.eof_received()
        connection.connection_lost(None)
        assert call.done

    def outcome(self) -> list[object]:
        assert self.calls.count("head") <= 1
        assert self.calls.count("end") + self.calls.count("failed") == 1
        assert self.calls[-1] in ("end", "failed")
        return self.facts

    # As the receiver.

    def head(self, status: int, headers: Headers) -> None:
        assert not self.calls
        assert status >= 200
        self.calls.append("head")
        self.facts.append((status, dict(headers)))

    def data(self, data: bytes) -> None:
        assert self.calls[0] == "head"
        assert data
        assert "content-encoding" not in self.facts[0][1] or len(data) <= STEP_BYTES  # type: ignore[index]
        self.calls.append("data")
        self.body += data

    def end(self) -> None:
        assert self.calls[0] == "head"
        self.calls.append("end")
        self.facts.append("end")

    def failed(self, error: ProviderError) -> None:
        self.calls.append("failed")
        self.facts.append(error.error_class)

    # As the transport.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def abort(self) -> None:
        self._aborted = True

    def is_closing(self) -> bool:
        return self._aborted

    # As the pool, and as the holder of the call before the connection.

    def opened(self, connection: Connection) -> None:
        pass

    def idle(self, connection: Connection) -> None:  # noqa: ARG002
        self.reused = True

    def gone(self, connection: Connection) -> None:
        pass

    def distrust(self) -> None:
        pass

    def drop(self, call: Call) -> None:
        pass

    def set_paused(self, *, paused: bool) -> None:
        pass
