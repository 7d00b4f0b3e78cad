"""When a failed attempt is repeated with the same candidate."""

from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import ErrorClass, leaf_of
from understudy.routing.retries import backoff_s


@given(
    st.sampled_from(ErrorClass),
    st.none() | st.floats(-10, 4000, allow_nan=False),
    st.floats(0, 1),
    st.floats(0, 200),
)
def test_a_second_try_never_waits_past_what_is_left_or_five_seconds(
    error_class: ErrorClass, retry_after_s: float | None, dice: float, remaining_s: float
) -> None:
    error = leaf_of(error_class)(error_class, retry_after_s=retry_after_s)

    wait = backoff_s(error, dice=dice, remaining_s=remaining_s)

    assert wait is None or 0 <= wait <= min(5.0, remaining_s)
