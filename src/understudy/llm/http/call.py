"""One request under way, and who takes its response: the interface of the HTTP client."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from understudy.errors import ProviderError
from understudy.llm.client import Exchange
from understudy.llm.http.parser import Headers

LAST_BYTES_S = 0.02
"""How long a connection waits for the end of a response whose receiver has all it needs."""


class ResponseReceiver(Protocol):
    """Takes one response as it arrives: `head`, then `data` any number of times, then `end`.

    `failed` may come in place of any of them and is then the last call, as `end` is. No method is
    called while `Endpoint.send` still runs, and none after `Call.close` or `Call.detach`.

    The methods run inside the event loop's read callback. They must not block and must not raise:
    an exception is reported to the loop's exception handler, closes the connection, and reaches
    the receiver as `failed` with `internal`. They may call every method of the `Call`, and may
    send the next request: in `end` and `failed` the call is done, its slot is free, and after
    `end` its connection is idle already where it can be reused.
    """

    def head(self, status: int, headers: Headers) -> None:
        """Take the status and the headers of the final response; any status from 200 up.

        The call's `Exchange` has `http_status`, `headers_s` and `phase` by now.
        """
        ...

    def data(self, data: bytes) -> None:
        """Take the next bytes of the body, never none: all that one read from the socket brought.

        Transfer and content codings are removed. One call brings at most what the event loop
        reads at once (256 KiB), and at most 64 KiB of a compressed body. While reading is paused
        none comes but what was read before.
        """
        ...

    def end(self) -> None:
        """The body is complete. It may come while reading is paused."""
        ...

    def failed(self, error: ProviderError) -> None:
        """The call ended without a complete response.

        `Unreachable`: `connect_refused`, `dns`, `tls`, `connect_timeout`, `pool_timeout`,
        `stale_connection` (a reused connection ended before any byte of a response: send again),
        `cancelled` (`HttpSessions.aclose` ended it), `internal`. `BadReply`: `bad_body` (not HTTP,
        a limit exceeded, an unknown coding), `truncated_stream`, `response_too_large` (a
        compressed body of over 64 MiB).
        """
        ...


class Holder(Protocol):
    """Whatever a call waits in: the queue for a slot, a dial, a connection."""

    def drop(self, call: "Call") -> None:
        """The call ended early: forget it, and stop what is done for it alone."""
        ...

    def set_paused(self, *, paused: bool) -> None: ...


class Call:
    """One request under way and its response; `Endpoint.send` makes it.

    Its sender owns it, and calls `close` or `detach` unless the receiver got `end` or `failed`.
    Both are idempotent and do nothing once the call is done.
    """

    __slots__ = (
        "_timer",
        "body",
        "clock",
        "exchange",
        "has_ended",
        "head",
        "holder",
        "paused",
        "receiver",
        "release_slot",
        "started",
    )

    def __init__(
        self,
        receiver: ResponseReceiver,
        exchange: Exchange,
        head: bytes,
        body: bytes,
        clock: Callable[[], float],
    ) -> None:
        self.receiver = receiver
        self.exchange = exchange
        self.head = head
        self.body = body
        self.paused = False
        self.has_ended = False
        """Whether the whole response was read: `end` follows what is being delivered."""
        self.release_slot: Callable[[], None] | None = None
        """Set while the call has one of its endpoint's slots."""
        self.clock = clock
        self.started = clock()
        self.holder: Holder | None = None
        """What it waits in; set by the queue, the pool and the connection."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more comes: the response ended, it failed, or the call was closed."""
        return self.holder is None

    def pause_reading(self) -> None:
        """Stop reading from the server; TCP then slows it down.

        At most what was read before still reaches the receiver (up to 256 KiB). Nothing limits
        the time of a pause: the server may close the connection meanwhile.
        """
        self.paused = True
        if self.holder is not None:
            self.holder.set_paused(paused=True)

    def resume_reading(self) -> None:
        """Read on. May call the receiver before it returns, with decoded bytes that waited."""
        self.paused = False
        if self.holder is not None:
            self.holder.set_paused(paused=False)

    def detach(self, grace_s: float = LAST_BYTES_S) -> None:
        """Have no more of the response delivered: its receiver has all it needs.

        A body that ends within `grace_s` leaves its connection for reuse; otherwise it is closed.
        The slot is free at once. `close` does nothing afterwards.
        """
        if self.holder is None:
            return
        if self.exchange.http_status is None:
            self.close()
            return
        self.receiver = _DISCARD
        if self.has_ended:
            return
        self._free_slot()
        self._timer = asyncio.get_running_loop().call_later(grace_s, self._give_up)
        self.resume_reading()

    def close(self) -> None:
        """Give the call up wherever it is: a connection that it has is closed at once."""
        if self._timer is None:
            self._give_up()

    # For the queue, the pool and the connection.

    def finish(self) -> None:
        """The call is done: the slot is free, and the receiver, which may own the call, let go."""
        self.holder = None
        self.receiver = _DISCARD
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        release = self.release_slot
        if release is not None:
            self.release_slot = None
            release()

    def fail(self, error: ProviderError) -> None:
        """End the call from outside its holder."""
        holder, receiver = self.holder, self.receiver
        if holder is not None:
            self.finish()
            holder.drop(self)
            receiver.failed(error)

    def _give_up(self) -> None:
        holder = self.holder
        if holder is not None:
            self.finish()
            holder.drop(self)

    def _free_slot(self) -> None:
        release, self.release_slot = self.release_slot, None
        if release is not None:
            release()


class _Discard:
    """Takes what is left of a response that was detached from its receiver."""

    def head(self, status: int, headers: Headers) -> None:
        pass

    def data(self, data: bytes) -> None:
        pass

    def end(self) -> None:
        pass

    def failed(self, error: ProviderError) -> None:
        pass


_DISCARD = _Discard()
