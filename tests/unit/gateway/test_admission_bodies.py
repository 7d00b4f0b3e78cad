from collections.abc import Iterator
from itertools import chain, repeat

import pytest

from understudy.errors import RequestRefused
from understudy.gateway.admission import BodyBudget


class Sender:
    """Sends a request's body part by part; then it hangs up."""

    def __init__(self, *parts: bytes, ends: bool = True) -> None:
        last = len(parts) - 1
        self._messages: Iterator[dict[str, object]] = chain(
            (
                {"type": "http.request", "body": part, "more_body": not ends or at < last}
                for at, part in enumerate(parts)
            ),
            repeat({"type": "http.disconnect"}),
        )

    async def receive(self) -> dict[str, object]:
        return next(self._messages)


async def _refusal(
    bodies: BodyBudget, sender: Sender, length: int | None = None
) -> tuple[int, str]:
    headers = {} if length is None else {b"content-length": b"%d" % length}
    with pytest.raises(RequestRefused) as caught:
        await bodies.read(headers, sender.receive)
    return caught.value.status, caught.value.code


async def test_parts_make_a_whole() -> None:
    assert await BodyBudget(8, 8).read({}, Sender(b"ab", b"", b"cd").receive) == b"abcd"


async def test_one_that_is_too_large_is_refused_by_its_length_or_once_it_shows() -> None:
    bodies = BodyBudget(8, 100)

    assert await _refusal(bodies, Sender(), length=9) == (413, "request_too_large")
    assert await _refusal(bodies, Sender(b"12345", b"6789")) == (413, "request_too_large")


async def test_what_all_hold_together_has_an_end_until_something_is_given_back() -> None:
    bodies = BodyBudget(8, 10)
    held = await bodies.read({}, Sender(b"12345").receive)
    assert held is not None

    assert await _refusal(bodies, Sender(), length=6) == (429, "busy")
    assert await _refusal(bodies, Sender(b"123", b"456")) == (429, "busy")
    assert await bodies.read({}, Sender(b"12345").receive) == b"12345"
    bodies.release(held)
    assert await bodies.read({}, Sender(b"12345").receive) == b"12345"


async def test_what_was_never_sent_whole_holds_no_room() -> None:
    bodies = BodyBudget(8, 8)

    assert await bodies.read({}, Sender(b"12345", ends=False).receive) is None
    await _refusal(bodies, Sender(b"12345", b"6789"))
    assert await bodies.read({}, Sender(b"12345678").receive) == b"12345678"
