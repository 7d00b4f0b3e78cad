import pytest

from understudy.app.gateway import within_open_files
from understudy.config.settings import Gateway


@pytest.mark.parametrize(("files", "most"), [(20_000, 2500), (1024, 332), (256, 25), (64, 2)])
def test_no_more_requests_than_there_are_files_for(files: int, most: int) -> None:
    assert within_open_files(Gateway(), files).max_requests == most
