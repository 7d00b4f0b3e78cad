"""Everything here runs on a clock that jumps, so nothing sleeps for real."""

import pytest

from autojump import AutojumpLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, type[AutojumpLoop]]:
    return {"autojump": AutojumpLoop}
