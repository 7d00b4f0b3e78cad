import resource

from hypothesis import given
from hypothesis import strategies as st

from understudy.app.file_limits import allow_more, open_files, shares


@given(st.integers(256, 2**20))
def test_all_together_get_no_more_than_there_is(files: int) -> None:
    shared = shares(files)

    assert shared.clients + shared.requests + shared.visitors <= files - 192
    assert min(shared.clients, shared.requests, shared.visitors) > 0


def test_the_limit_is_raised_and_never_lowered() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        allow_more()
        raised = open_files()
        allow_more()
        assert open_files() == raised > 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
