"""A few hundred replies under random faults; `make soak` plays 10,000."""

from structlog.testing import capture_logs

from conformance.soak import soak


async def test_random_faults_leave_no_connection_no_task_and_no_growing_memory() -> None:
    with capture_logs():
        seen = await soak(300, seed=7)

    assert seen.is_clean, seen.line()
    assert seen.replies.total() == 300
    assert seen.faulted > 0
