import pytest

from understudy.app.gateway import limited_by_open_files, request_id
from understudy.config.settings import Gateway


@pytest.mark.parametrize(("files", "most"), [(20_000, 2500), (1024, 307), (256, 2), (64, 2)])
def test_max_requests_is_limited_by_open_files(files: int, most: int) -> None:
    assert limited_by_open_files(Gateway(), files).max_requests == most


def test_ids_of_requests_sort_by_their_time_and_differ_within_it() -> None:
    moments = [1_790_000_000 + number / 500 for number in range(100)]

    ids = [request_id(lambda moment=moment: moment) for moment in moments]  # type: ignore[misc]

    assert ids == sorted(ids)
    assert len({request_id(lambda: moments[0]) for _ in range(100)}) == 100
    assert {(len(one), one.isalnum(), one.islower()) for one in ids} == {(16, True, True)}
