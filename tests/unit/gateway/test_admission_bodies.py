import pytest

from understudy.errors import RequestRefused
from understudy.gateway.admission import BodyBudget


def refusal(bodies: BodyBudget, size: int, more: int) -> tuple[int, str]:
    with pytest.raises(RequestRefused) as caught:
        bodies.reserve(size, more)
    return caught.value.status, caught.value.code


def declared(bodies: BodyBudget, length: int) -> tuple[int, str]:
    with pytest.raises(RequestRefused) as caught:
        bodies.check_declared({b"content-length": b"%d" % length})
    return caught.value.status, caught.value.code


def test_one_that_is_too_large_is_refused_by_its_length_or_once_it_shows() -> None:
    bodies = BodyBudget(8, 100)

    assert declared(bodies, 9) == (413, "request_too_large")
    bodies.reserve(5, 5)
    assert refusal(bodies, 9, 4) == (413, "request_too_large")


def test_what_all_hold_together_has_an_end_until_something_is_given_back() -> None:
    bodies = BodyBudget(8, 10)
    bodies.reserve(5, 5)

    assert declared(bodies, 6) == (429, "busy")
    bodies.reserve(3, 3)
    assert refusal(bodies, 6, 3) == (429, "busy")
    bodies.release(5)
    bodies.reserve(6, 3)


def test_a_length_that_is_no_number_is_no_declaration() -> None:
    BodyBudget(8, 8).check_declared({b"content-length": b"many"})
    BodyBudget(8, 8).check_declared({})
