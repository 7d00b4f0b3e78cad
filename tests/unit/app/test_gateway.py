import pytest

from understudy.app.gateway import limited_by_open_files
from understudy.config.settings import Gateway


@pytest.mark.parametrize(("files", "most"), [(20_000, 2500), (1024, 307), (256, 2), (64, 2)])
def test_max_requests_is_limited_by_open_files(files: int, most: int) -> None:
    assert limited_by_open_files(Gateway(), files).max_requests == most
