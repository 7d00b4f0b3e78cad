import resource

from hypothesis import given
from hypothesis import strategies as st

from understudy.app.file_limits import divide_files, open_file_limit, raise_open_file_limit


@given(st.integers(256, 2**20))
def test_shares_do_not_exceed_the_limit(files: int) -> None:
    shared = divide_files(files)

    assert shared.clients + shared.requests + shared.visitors <= files - 192
    assert min(shared.clients, shared.requests, shared.visitors) > 0


def test_the_open_file_limit_is_raised_and_never_lowered() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        raise_open_file_limit()
        raised = open_file_limit()
        raise_open_file_limit()
        assert open_file_limit() == raised > 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
