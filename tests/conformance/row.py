"""One row of the table: a fault, and what a router must make of it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from conformance.subject import Sink, Wish


class Primary(Protocol):
    """The server that fails; it listens while its context is entered."""

    @property
    def base_url(self) -> str: ...

    @property
    def calls(self) -> int:
        """How many requests have reached it."""
        ...


OpenPrimary = Callable[[], AbstractAsyncContextManager[Primary]]


@dataclass(frozen=True, slots=True)
class Row:
    fault: str
    """A behaviour of the rehearsal servers, or a description of what `opens` does."""
    error_class: str
    waits: bool = False
    """Found out only when the limit has passed."""
    image: bool = False
    may_trim_prompt: bool = True
    part_seen: bool = False
    """Breaks off after text: an append-only sink keeps the part and hears of the error."""
    whole: bool = False
    """Odd, but the primary's answer is whole."""
    for_people: bool = False
    """A program gets it as the primary's whole answer."""
    opens: OpenPrimary | None = None
    """The primary, where it is no rehearsal server."""
    reached: bool = True
    """Whether the request comes as far as the primary."""
    connects: bool = False
    """The limit that passes is the one for connecting."""
    large: bool = False
    """The request is larger than what the system buffers."""

    def wish(self, sink: Sink) -> Wish:
        return Wish(sink, image=self.image, may_trim_prompt=self.may_trim_prompt, large=self.large)
